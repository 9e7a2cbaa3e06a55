"""A process that has imported TensorFlow and forks ranks from itself: an attempt pays for no interpreter and no import.

TensorFlow's runtime (devices, threads, the collectives' server) is made in each forked process, never here: a process
that has made it cannot be forked any more. What a fork computes is bit for bit what a fresh process computes.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import struct
import tempfile
from dataclasses import dataclass, field
from typing import NoReturn

from distributed_cls.contracts import fork_request
from distributed_cls.contracts.fork_request import DESCRIPTORS, Exited, Forked, ForkRequest, SignalRequest
from distributed_cls.training import parent, rank_main

_MAX_REQUEST_BYTES = 2**20
_CREDENTIALS = struct.Struct("3i")  # of the process at the other end: pid, user, group (unix(7), SO_PEERCRED)


@dataclass
class _Client:
    """An agent: its socket, what it has sent so far, and its processes that run, each with its temporary folder."""

    connection: socket.socket
    received: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    scratch: dict[int, str] = field(default_factory=dict)


class ForkServer:
    """Serves one ``agent`` until it is gone, or all that call at ``listener`` until ``owner`` is."""

    def __init__(
        self, agent: socket.socket | None, listener: socket.socket | None = None, owner: socket.socket | None = None
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []
        # The end of a child becomes a byte on a socket that the selector watches.
        self._child_ended, self._wakeup = socket.socketpair()
        for end in (self._child_ended, self._wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._child_ended, selectors.EVENT_READ, self._reap)
        self._listener, self._owner, self._owned = listener, owner, True
        if listener is not None and owner is not None:
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
            self._selector.register(owner, selectors.EVENT_READ, self._lose_owner)
        if agent is not None:
            self._add(agent)

    def serve(self) -> None:
        """Fork what is asked for."""
        while self._owned if self._owner is not None else self._clients:
            for key, _ in self._selector.select():
                key.data()

    def _lose_owner(self) -> None:
        self._owned = False
        for client in list(self._clients):
            self._drop(client)

    def _accept(self) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        # Its address is a name that everyone on this machine may call; only ourselves may have processes of us forked.
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] == os.getuid():
            self._add(connection)
        else:
            connection.close()

    def _add(self, connection: socket.socket) -> None:
        client = _Client(connection)
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: _Client) -> None:
        try:
            block, descriptors, _, _ = socket.recv_fds(client.connection, 65536, len(DESCRIPTORS))
        except OSError:
            block, descriptors = b"", []
        client.descriptors += descriptors
        client.received += block
        if not block or len(client.received) > _MAX_REQUEST_BYTES:
            self._drop(client)
            return
        *lines, client.received = client.received.split(b"\n")
        for line in lines:
            match fork_request.loads(line):
                case ForkRequest(environment=environment):
                    self._fork(client, environment)
                case SignalRequest(pid=pid, number=number) if pid in client.scratch:
                    os.kill(pid, number)  # not reaped yet, so it is no other process of that number

    def _drop(self, client: _Client) -> None:
        """An agent is gone, and its processes with it."""
        if client not in self._clients:  # gone together with the owner
            return
        for pid in client.scratch:
            os.kill(pid, signal.SIGKILL)
        while client.scratch:
            pid, scratch = client.scratch.popitem()
            os.waitpid(pid, 0)
            shutil.rmtree(scratch, ignore_errors=True)
        self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.remove(client)

    def _fork(self, client: _Client, environment: dict[str, str]) -> None:
        descriptors, client.descriptors = client.descriptors, []
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_rank(own, environment, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        client.scratch[pid] = environment["TMPDIR"]
        self._answer(client, Forked(pid))

    def _become_rank(self, parent_pid: int, environment: dict[str, str], descriptors: list[int]) -> NoReturn:
        """Leave everything of this server behind, in the forked process."""
        try:
            parent.die_with(parent_pid)
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for held in self._sockets():
                if held is not None:
                    held.close()
            given = dict(zip(DESCRIPTORS, descriptors, strict=True))
            os.dup2(given["input"], 0)
            os.dup2(given["output"], 1)
            os.dup2(given["output"], 2)
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None  # that of the new environment
            rank_main.main(given["events"], (given["state_0"], given["state_1"]))
        finally:  # whatever it was: never back into the server's loop
            os._exit(1)

    def _sockets(self) -> list[socket.socket | None]:
        return [self._child_ended, self._wakeup, self._listener, self._owner, *(c.connection for c in self._clients)]

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._child_ended.recv(4096):
                continue
        for client in self._clients:
            for pid in list(client.scratch):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    shutil.rmtree(client.scratch.pop(pid), ignore_errors=True)
                    self._answer(client, Exited(pid, os.waitstatus_to_exitcode(status)))

    def _answer(self, client: _Client, message: Forked | Exited) -> None:
        with contextlib.suppress(OSError):  # the agent is gone: its end of the socket says so next
            client.connection.sendall(fork_request.dumps(message))
