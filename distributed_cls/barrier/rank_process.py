"""The child process of a rank: started fresh, watched, its output passed on, ended with its parent."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import distributed_cls
from distributed_cls.barrier.relay import Line

_POLL_SECONDS = 0.1
_TERM_SECONDS = 5.0


class Child:
    """``python -m distributed_cls.training`` with an order; its events and log lines go to the driver."""

    def __init__(self, order: dict[str, Any], environment: dict[str, str], line: Line) -> None:
        self._line = line
        self.result: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        read_end, write_end = os.pipe()
        try:
            # A fresh interpreter each time: TensorFlow's collectives can be set up only once in a process.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distributed_cls.training", "--events", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[write_end],
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already: ``wait`` tells
            self.process.stdin.write(json.dumps({**order, "parent": os.getpid()}).encode() + b"\n")
            self.process.stdin.flush()
        self._readers = [
            threading.Thread(target=self._pass_on_log, name="child-log", daemon=True),
            threading.Thread(target=self._pass_on_events, args=(read_end,), name="child-events", daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _pass_on_log(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self._line.send({"event": "log", "line": raw.decode("utf-8", "replace").rstrip("\n")})

    def _pass_on_events(self, read_end: int) -> None:
        with os.fdopen(read_end, encoding="utf-8") as stream:
            for text in stream:
                if not text.endswith("\n"):  # killed in mid-line
                    return
                event = json.loads(text)
                if event["event"] == "result":
                    self.result = event["result"]
                elif event["event"] == "failure":
                    self.failure = event
                self._line.send(event)

    def wait(self) -> bool:
        """Return when there is a result (True), when the process has ended without one, or when the driver hangs up.

        A process with a result stays until ``leave``; any other is ended here.
        """
        try:
            while self.process.poll() is None and self.result is None:
                if self._line.hung_up.wait(_POLL_SECONDS):
                    break
        finally:
            if self.result is None:
                self.stop()
                self._join()
        return self.result is not None

    def leave(self) -> int:
        """Let a process with a result go; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
        self._join()
        return self.process.returncode

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(timeout=_TERM_SECONDS)

    def stop(self) -> None:
        """End the process if it still runs: SIGTERM, then SIGKILL."""
        if self.process.poll() is None:
            self.process.terminate()
            deadline = time.monotonic() + _TERM_SECONDS
            while self.process.poll() is None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def environment(tf_config: str, threads: int) -> dict[str, str]:
    """The child's environment: this worker's own, with its cluster, and its threads bounded to its slot's cores."""
    here = str(Path(distributed_cls.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "TF_CONFIG": tf_config,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        "PYTHONPATH": here + (os.pathsep + path if path else ""),
        "PYTHONUNBUFFERED": "1",
    }
