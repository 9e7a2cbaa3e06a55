"""The line between the ranks and the driver: JSON lines over TCP, behind a secret of the run.

The driver listens on the one address that its executors already reach it at (``spark.driver.host``), never on all
interfaces. Each side proves that it knows the secret without sending it (HMAC-SHA256 over the other's nonce), before
a single event is read. Ranks send events; the driver sends nothing but its hanging up, which means: stop.
"""

import contextlib
import hashlib
import hmac
import json
import queue
import secrets
import socket
import threading
import time
from typing import Any

_NONCE_BYTES = 32
_HANDSHAKE_SECONDS = 10.0
_STRANGERS = 256  # connections at one time that have not proved anything; further ones wait in line
_LONGEST_LINE = 64 * 2**20  # an event with a gallery of images is a few MB


class _Lines:
    """Whole lines from a socket, of bounded length."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")

    def read(self, longest: int = _LONGEST_LINE) -> bytes | None:
        """The next line without its end; None at the end of the stream."""
        line = self._stream.readline(longest + 2)
        if len(line) > longest + 1:
            raise ConnectionError(f"a line of more than {longest} bytes")
        return line.rstrip(b"\n") if line.endswith(b"\n") else None


def _proof(secret: str, role: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret.encode(), role + nonce, hashlib.sha256).hexdigest().encode()


def _handshake(connection: socket.socket, lines: _Lines, secret: str, own_role: bytes, peer_role: bytes) -> bool:
    """Exchange nonces and proofs; True when the peer knows the secret. The role keeps a proof from being echoed."""
    nonce = secrets.token_hex(_NONCE_BYTES).encode()
    connection.sendall(nonce + b"\n")
    peer_nonce = lines.read(2 * _NONCE_BYTES)
    if peer_nonce is None:
        return False
    connection.sendall(_proof(secret, own_role, peer_nonce) + b"\n")
    answer = lines.read(64)
    return answer is not None and hmac.compare_digest(answer, _proof(secret, peer_role, nonce))


def _hang_up(connection: socket.socket) -> None:
    """End a connection; shutdown wakes the thread that is blocked in it, close alone does not."""
    with contextlib.suppress(OSError):  # it was gone already
        connection.shutdown(socket.SHUT_RDWR)


class Relay:
    """The driver's end. ``events`` is a queue of dicts; a lost connection is the event ``disconnected``."""

    def __init__(self, host: str, handshake_seconds: float = _HANDSHAKE_SECONDS) -> None:
        self._handshake_seconds = handshake_seconds
        self.secret = secrets.token_hex(32)
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = socket.create_server((host, 0))
        self.address: tuple[str, int] = (host, self._server.getsockname()[1])
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._strangers = threading.Semaphore(_STRANGERS)
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def _accept(self) -> None:
        while True:
            self._strangers.acquire()
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), name="relay-rank", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        rank = None
        try:
            lines = _Lines(connection)
            if not self._knows(connection, lines):
                return
            with self._lock:
                if self._closed:
                    return
                self._connections.add(connection)
            while (line := lines.read()) is not None:
                event = json.loads(line)
                rank = event["rank"]
                self.events.put(event)
        except (OSError, ValueError):  # a stranger, or a rank that died in mid-line: told below
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()
            if rank is not None:
                self.events.put({"event": "disconnected", "rank": rank, "time": time.time()})

    def _knows(self, connection: socket.socket, lines: _Lines) -> bool:
        """Whether the other end proves in time that it knows the secret."""
        # Not a timeout of the socket: it would begin anew with each byte of a stranger who has time.
        limit = threading.Timer(self._handshake_seconds, _hang_up, [connection])
        limit.daemon = True
        limit.start()
        try:
            return _handshake(connection, lines, self.secret, b"driver", b"rank")
        finally:
            limit.cancel()
            self._strangers.release()

    def close(self) -> None:
        """Hang up on every rank, which ends their child processes, and stop listening."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in [self._server, *connections]:
            _hang_up(connection)
        self._server.close()


class Line:
    """A rank's end of the relay."""

    def __init__(self, address: tuple[str, int], secret: str, rank: int) -> None:
        self._rank = rank
        self._lock = threading.Lock()
        self._connection = socket.create_connection(address, timeout=_HANDSHAKE_SECONDS)
        lines = _Lines(self._connection)
        if not _handshake(self._connection, lines, secret, b"rank", b"driver"):
            raise ConnectionError(f"the driver at {address[0]}:{address[1]} does not know the secret of this run")
        self._connection.settimeout(None)
        self.hung_up = threading.Event()
        threading.Thread(target=self._wait_for_end, args=(lines,), name="driver-line", daemon=True).start()

    def _wait_for_end(self, lines: _Lines) -> None:
        try:
            while lines.read() is not None:
                continue
        except OSError:  # a reset is an end as well
            pass
        self.hung_up.set()

    def send(self, event: dict[str, Any]) -> None:
        """Send one event with this rank's number; a dead line sets ``hung_up`` and is not an error here."""
        event = {"time": time.time(), **event, "rank": self._rank}
        try:
            with self._lock:
                self._connection.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            self.hung_up.set()

    def close(self) -> None:
        _hang_up(self._connection)  # the thread that waits for the driver holds the socket open otherwise
        self._connection.close()
