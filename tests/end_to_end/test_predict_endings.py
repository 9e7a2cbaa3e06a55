"""A signal ends a predict or stream job at once, in the middle of its work as well as while it waits."""

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Launcher
from tests.end_to_end.inference_support import digits_model, write_images
from tests.patience import PATIENCE


def read_until(process: "subprocess.Popen[str]", words: str, limit: float = PATIENCE) -> str:
    """What the job has printed up to and with the line that holds ``words``."""
    assert process.stdout is not None
    seen, deadline = "", time.monotonic() + limit
    while words not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([process.stdout], [], [], 1)[0]:
            line = process.stdout.readline()
            assert line, seen
            seen += line
    return seen


@pytest.mark.parametrize(
    ("job", "words", "number", "code"),
    [
        ("predict", "images  0/", signal.SIGHUP, 143),  # the terminal is closed
        ("stream", "watching ", signal.SIGINT, 130),  # the first micro-batch is about to begin
    ],
)
def test_a_signal_ends_the_job_at_once(
    launch: Launcher, tmp_path: Path, job: str, words: str, number: signal.Signals, code: int
) -> None:
    source = tmp_path / "many"
    picture = write_images(source, 1)[0]
    if job == "predict":  # enough for many minutes
        for count in range(60_000):
            os.link(picture, source / f"{count}.png")
    process, folder = launch.start(
        f"job={job}", f"model_dir={digits_model()}", f"data.path={source}", f"output={tmp_path / 'out'}"
    )
    seen = read_until(process, words)
    process.send_signal(number)
    ended = launch.end(process, folder)
    assert ended.code == code, seen + ended.output
    assert len(ended.errors) == 1
    # The answer of a call that is cut off would never come: Py4J then complains, or waits.
    assert "Exception" not in ended.output
    assert "Traceback" not in ended.output
    assert not (tmp_path / "out" / "_summary.json").exists()
