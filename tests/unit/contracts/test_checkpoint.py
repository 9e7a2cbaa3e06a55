"""Checkpoints that several threads of one process read."""

import gc
import threading
import time
from pathlib import Path

import numpy as np

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from tests.patience import PATIENCE


def test_threads_read_at_once_while_garbage_is_collected(tmp_path: Path) -> None:
    """As in TensorFlow, whose collections call Python: Python 3.11.7 then fails in what NumPy parses headers with."""
    path = tmp_path / checkpoint.LAST
    checkpoint.write(path, {f"{number:05d}:kernel": np.full((3, 4), number) for number in range(40)}, Position(step=24))
    steps: list[int] = []

    def read() -> None:
        steps.extend(checkpoint.read(path)[1].step for _ in range(5))

    def lets_others_run(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    usual = gc.get_threshold()
    gc.set_threshold(20)
    gc.callbacks.append(lets_others_run)
    try:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        gc.callbacks.remove(lets_others_run)
        gc.set_threshold(*usual)
    assert steps == [24] * 15
