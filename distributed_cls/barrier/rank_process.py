"""The process of a rank: forked from the warm process, its output and events passed on, ended when it must."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import distributed_cls
from distributed_cls.barrier.warm_process import WarmProcess
from distributed_cls.config.plugins import module_root
from distributed_cls.contracts import events
from distributed_cls.contracts.events import Failed, Finished, LogLine

_JOIN_SECONDS = 5.0
# gRPC would send the ranks' own traffic through a proxy; the first two are read by gRPC, the others by downloads.
_NO_PROXY = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


class RankProcess:
    """A rank with an assignment. ``report`` is given its events and log lines as JSON text, from several threads;
    ``given_up`` tells whether the driver is gone."""

    def __init__(
        self,
        warm: WarmProcess,
        assignment: str,
        environment: Mapping[str, str],
        states: Sequence[int],
        report: Callable[[str], None],
        given_up: Callable[[], bool],
    ) -> None:
        self._warm, self._report = warm, report
        self.finished = False
        self.failed = False  # it has said why
        # TensorFlow leaves small files in the temporary folder and removes them at an orderly end, which no rank has.
        self._scratch = tempfile.mkdtemp(prefix="distributed_cls-rank-")
        ends = [os.pipe() for _ in range(3)]
        (input_read, self._input), (output_read, output_write), (events_read, events_write) = ends
        theirs = [input_read, output_write, events_write]
        try:
            self.pid = warm.fork({**environment, "TMPDIR": self._scratch}, [*theirs, *states], given_up)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            for descriptor in (self._input, output_read, events_read):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._readers = [
            threading.Thread(target=self._pass_on_log, args=(output_read,), name="rank-log", daemon=True),
            threading.Thread(target=self._pass_on_events, args=(events_read,), name="rank-events", daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._assign(assignment)

    def _assign(self, assignment: str) -> None:
        # In a thread: a process that is stopped, or dead, does not read.
        def write() -> None:
            with contextlib.suppress(OSError):  # it is dead already: its exit code says so
                view = memoryview(assignment.encode() + b"\n")
                while view:
                    view = view[os.write(self._input, view) :]

        self._writer = threading.Thread(target=write, name="rank-assignment", daemon=True)
        self._writer.start()

    def _pass_on_log(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as stream:
            for raw in stream:
                self._report(events.dumps(LogLine(line=raw.decode("utf-8", "replace").rstrip("\n"))))

    def _pass_on_events(self, read_end: int) -> None:
        with os.fdopen(read_end, encoding="utf-8") as stream:
            for text in stream:
                if not text.endswith("\n"):  # killed in mid-line
                    return
                event = events.loads(text)
                self.finished = self.finished or isinstance(event, Finished)
                self.failed = self.failed or isinstance(event, Failed)
                self._report(text.rstrip("\n"))

    def wait(self, timeout: float) -> int | None:
        """Its exit code, once all that it wrote is passed on; None while it runs after ``timeout`` seconds."""
        code = self._warm.exit_code(self.pid, timeout)
        if code is not None:
            for reader in self._readers:
                reader.join(_JOIN_SECONDS)
        return code

    def release(self) -> None:
        """Let it go: it ends as soon as its standard input does."""
        self._writer.join(_JOIN_SECONDS)
        if self._input >= 0:
            os.close(self._input)
        self._input = -1

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        self._warm.signal(self.pid, number)

    def clear(self) -> None:
        """Remove what is left of it, once it has ended."""
        self.release()
        shutil.rmtree(self._scratch, ignore_errors=True)


def environment(
    threads: int, plugins: Sequence[str] = (), tf_config: str | None = None, hosts: Sequence[str] = ()
) -> dict[str, str]:
    """A process's environment: this worker's own, its threads bounded to its slot's cores, and its cluster.

    ``hosts`` are those of all ranks: a proxy of the machine never comes between them. ``plugins`` are modules that are
    imported already. ``tf_config``: None for the warm process, which has no cluster.
    """
    places = [str(Path(distributed_cls.__file__).parent.parent)]
    places += [module_root(name) for name in plugins]
    path = os.environ.get("PYTHONPATH", "")
    direct = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    given = {name: os.environ.get(name, "") for name in _NO_PROXY}
    return {
        **os.environ,
        **({} if tf_config is None else {"TF_CONFIG": tf_config}),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        **{name: direct + ("," + value if value else "") for name, value in given.items()},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*places, *([path] if path else [])])),
        "PYTHONUNBUFFERED": "1",
    }
