"""The process of a rank: started fresh, watched, its output passed on, ended with its parent."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import distributed_cls
from distributed_cls.barrier.relay import DriverConnection
from distributed_cls.config.plugins import module_root
from distributed_cls.contracts import events
from distributed_cls.contracts.events import Failed, Finished, LogLine
from distributed_cls.contracts.rank_task import RankResult

_POLL_SECONDS = 0.1
_TERM_SECONDS = 5.0
# gRPC would send the ranks' own traffic through a proxy; the first two are read by gRPC, the others by downloads.
_NO_PROXY = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


class RankProcess:
    """``python -m distributed_cls.training`` with an assignment; its events and log lines go to the driver."""

    def __init__(self, assignment: str, environment: dict[str, str], connection: DriverConnection) -> None:
        self._connection = connection
        self.result: RankResult | None = None
        self.failure: Failed | None = None
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
        with contextlib.suppress(BrokenPipeError):  # it is dead already: ``wait`` notices
            self.process.stdin.write(assignment.encode() + b"\n")
            self.process.stdin.flush()
        self._readers = [
            threading.Thread(target=self._pass_on_log, name="rank-log", daemon=True),
            threading.Thread(target=self._pass_on_events, args=(read_end,), name="rank-events", daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _pass_on_log(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self._connection.send(LogLine(line=raw.decode("utf-8", "replace").rstrip("\n")))

    def _pass_on_events(self, read_end: int) -> None:
        with os.fdopen(read_end, encoding="utf-8") as stream:
            for text in stream:
                if not text.endswith("\n"):  # killed in mid-line
                    return
                event = events.loads(text)
                if isinstance(event, Finished):  # returned through Spark; the driver does not need it twice
                    self.result = event.result
                    continue
                if isinstance(event, Failed):
                    self.failure = event
                self._connection.send_line(text.rstrip("\n"))

    def wait(self) -> bool:
        """Return when there is a result (True), when the process has ended without one, or when the driver is gone.

        A process with a result stays until ``leave``; any other is ended here.
        """
        try:
            while self.process.poll() is None and self.result is None:
                if self._connection.closed.wait(_POLL_SECONDS):
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


def environment(tf_config: str, threads: int, hosts: Sequence[str], plugins: Sequence[str] = ()) -> dict[str, str]:
    """The process's environment: this worker's own, with its cluster, and its threads bounded to its slot's cores.

    ``hosts`` are those of all ranks: a proxy of the machine never comes between them. ``plugins`` are modules that are
    imported already.
    """
    places = [str(Path(distributed_cls.__file__).parent.parent)]
    places += [module_root(name) for name in plugins]
    path = os.environ.get("PYTHONPATH", "")
    direct = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    given = {name: os.environ.get(name, "") for name in _NO_PROXY}
    return {
        **os.environ,
        "TF_CONFIG": tf_config,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        **{name: direct + ("," + value if value else "") for name, value in given.items()},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*places, *([path] if path else [])])),
        "PYTHONUNBUFFERED": "1",
    }
