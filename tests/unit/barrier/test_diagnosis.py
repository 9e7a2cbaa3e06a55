"""What an operator is shown of the pages that Spark, TensorFlow and Python write."""

import subprocess
import sys
import traceback

import numpy as np
import pytest

from distributed_cls.barrier.diagnosis import last_informative_lines, without_stack_trace
from tests.patience import PATIENCE


def test_a_tensorflow_error_is_shown_without_its_stack() -> None:
    import tensorflow as tf

    @tf.function
    def failing(values: tf.Tensor) -> tf.Tensor:
        return tf.debugging.check_numerics(values, "the loss is broken")

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        failing(tf.constant([np.nan]))
    message = without_stack_trace(str(raised.value))
    assert "the loss is broken" in message
    assert "\n" not in message and 'File "' not in message and "Detected at node" not in message
    assert len(message) <= 400


def test_the_last_informative_lines_are_the_traceback_without_its_frames() -> None:
    try:
        {}["missing"]
    except KeyError:
        trace = traceback.format_exc().splitlines()
    noise = [
        "I0000 00:00:1795213180.811744   11018 port.cc:153] oneDNN custom operations are on.",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "2026-11-20 22:13:01.123456: E external/local_xla/xla/stream_executor/cuda.cc:266] no CUDA-capable device",
        "",
    ]
    shown = last_informative_lines([*noise, "epoch 3 begins", *noise, *trace])
    assert shown[0] == "epoch 3 begins"
    assert shown[-1] == "KeyError: 'missing'"
    assert not any("File" in line or "port.cc" in line or "xla" in line for line in shown)
    assert last_informative_lines([str(number) for number in range(100)]) == [str(number) for number in range(92, 100)]


def test_what_tensorflow_writes_at_its_start_is_not_informative() -> None:
    code = "from distributed_cls.models.tensorflow_import import import_tensorflow; import_tensorflow()"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert last_informative_lines(run.stderr.splitlines()) == []
