"""An agent's end of the process that has TensorFlow imported and forks ranks (``training/fork_server.py``)."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from distributed_cls.contracts import fork_request
from distributed_cls.contracts.fork_request import Exited, Forked, ForkRequest, SignalRequest

_END_SECONDS = 5.0
_POLL_SECONDS = 0.5
_CLEAR_SECONDS = 1.0


class WarmProcessGone(RuntimeError):
    """The warm process has ended, and its ranks with it."""


class WarmProcess:
    """A warm process of this agent's own, or a place in the one that all agents of a local master share."""

    def __init__(self, environment: Mapping[str, str], shared: str | None = None) -> None:
        """``environment``: what TensorFlow's import depends on; ``shared``: the address of a Unix socket."""
        self._process: subprocess.Popen[bytes] | None = None
        if shared is None:
            self._connection, theirs = socket.socketpair()
            with theirs:
                self._process = start_process(environment, ["--agent", str(theirs.fileno())], [theirs.fileno()])
        else:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.connect(shared)
        self._forked: queue.Queue[int | None] = queue.Queue()  # answers to requests; None: none will come
        self._exits: dict[int, int] = {}
        self._changed = threading.Condition()
        self.gone = False
        threading.Thread(target=self._read, name="warm-process", daemon=True).start()

    @property
    def output(self) -> IO[bytes] | None:
        """What a process of this agent's own writes, such as complaints of TensorFlow's import."""
        return self._process.stdout if self._process else None

    def fork(
        self, environment: Mapping[str, str], descriptors: Sequence[int], given_up: Callable[[], bool] = lambda: False
    ) -> int:
        """Fork a process that takes over ``descriptors`` (see ``contracts/fork_request.py``); its pid.

        Waits for the end of the import, unless ``given_up`` says that nobody wants it any more. Raises WarmProcessGone.
        """
        try:
            message = fork_request.dumps(ForkRequest(dict(environment)))
            socket.send_fds(self._connection, [message], list(descriptors))
        except OSError as error:
            raise WarmProcessGone(f"the warm process does not listen: {error}") from error
        while True:
            try:
                pid = self._forked.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if given_up():
                    raise WarmProcessGone("the driver was gone before the import had ended") from None
                continue
            if pid is None:
                raise WarmProcessGone(f"the warm process ended{self._how()}")
            return pid

    def exit_code(self, pid: int, timeout: float = 0.0) -> int | None:
        """The exit code of a forked process, or minus a signal's number; None while it runs after ``timeout`` s."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._exits or self.gone, timeout)
            if self.gone:  # its ranks are killed by the kernel when it ends
                return self._exits.get(pid, -signal.SIGKILL)
            return self._exits.get(pid)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a forked process that still runs."""
        with contextlib.suppress(OSError):  # it is gone, and the rank with it
            self._connection.sendall(fork_request.dumps(SignalRequest(pid, number)))

    def close(self) -> None:
        """End the processes that were forked for this agent, and the warm process if it is its own."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        if self._process is not None:
            end_process(self._process)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._connection.makefile("rb") as lines:
            for line in lines:
                match fork_request.loads(line):
                    case Forked(pid=pid):
                        self._forked.put(pid)
                    case Exited(pid=pid, code=code):
                        with self._changed:
                            self._exits[pid] = code
                            self._changed.notify_all()
        with self._changed:
            self.gone = True
            self._changed.notify_all()
        self._forked.put(None)

    def _how(self) -> str:
        if self._process is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f" with {describe_exit(self._process.wait(_END_SECONDS))}"
        return ""


def start_process(
    environment: Mapping[str, str], place: Sequence[str], descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a warm process: ``place`` says whom it serves. Until its import has ended it dies with the thread that
    calls this; from then on it ends with its socket.
    """
    command = [sys.executable, "-m", "distributed_cls.training", "--parent", str(os.getpid()), *place]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        pass_fds=descriptors,
        start_new_session=True,
    )


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Wait for a warm process whose socket was closed: it ends its ranks and goes. In mid-import it is killed."""
    try:
        process.wait(_CLEAR_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def describe_exit(code: int) -> str:
    """How a process ended, for a person."""
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"signal {signal.Signals(-code).name}{hint}"
    return f"exit code {code}"
