"""The connection between the ranks' agents and the driver: events as JSON lines over TCP, behind a secret of the run.

The driver listens on the one address that its executors already reach it at (``spark.driver.host``), never on all
interfaces. Each side proves that it knows the secret without sending it (HMAC-SHA256 over the other's nonce), before
a single event is read. Agents send events; the driver sends nothing: that it closes the connection means "stop".
"""

import contextlib
import hashlib
import hmac
import json
import logging
import queue
import secrets
import socket
import threading
import time

from distributed_cls.contracts import events
from distributed_cls.contracts.events import Disconnected, Event

log = logging.getLogger(__name__)

_NONCE_BYTES = 32
_HANDSHAKE_SECONDS = 10.0
_MAX_UNAUTHENTICATED = 256  # connections at one time that have proved nothing; further ones wait in line
_MAX_LINE_BYTES = 64 * 2**20  # an event with a gallery of images is a few MB
_ACCEPT_PAUSE_SECONDS = 0.2  # after an error of accept, such as too many open files


class _LineReader:
    """Whole lines from a socket, of bounded length."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")

    def read(self, max_bytes: int = _MAX_LINE_BYTES) -> bytes | None:
        """The next line without its end; None at the end of the stream."""
        line = self._stream.readline(max_bytes + 2)
        if len(line) > max_bytes + 1:
            raise ConnectionError(f"a line of more than {max_bytes} bytes")
        return line.rstrip(b"\n") if line.endswith(b"\n") else None


def _proof(secret: str, role: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret.encode(), role + nonce, hashlib.sha256).hexdigest().encode()


def _handshake(connection: socket.socket, lines: _LineReader, secret: str, own_role: bytes, peer_role: bytes) -> bool:
    """Exchange nonces and proofs; True when the peer knows the secret. The role keeps a proof from being echoed."""
    nonce = secrets.token_hex(_NONCE_BYTES).encode()
    connection.sendall(nonce + b"\n")
    peer_nonce = lines.read(2 * _NONCE_BYTES)
    if peer_nonce is None:
        return False
    connection.sendall(_proof(secret, own_role, peer_nonce) + b"\n")
    answer = lines.read(64)
    return answer is not None and hmac.compare_digest(answer, _proof(secret, peer_role, nonce))


def _shut_down(connection: socket.socket) -> None:
    """End a connection; shutdown wakes the thread that is blocked in it, close alone does not."""
    with contextlib.suppress(OSError):  # it was gone already
        connection.shutdown(socket.SHUT_RDWR)


class Relay:
    """The driver's end. ``events`` has every event of every rank, with its rank and the driver's time."""

    def __init__(self, host: str, handshake_seconds: float = _HANDSHAKE_SECONDS) -> None:
        self._handshake_seconds = handshake_seconds
        self.secret = secrets.token_hex(32)
        self.events: queue.Queue[Event] = queue.Queue()
        self._server = socket.create_server((host, 0))
        self.address: tuple[str, int] = (host, self._server.getsockname()[1])
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._unauthenticated = threading.Semaphore(_MAX_UNAUTHENTICATED)
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._unauthenticated.acquire()
            try:
                connection, _ = self._server.accept()
            except OSError as error:
                self._unauthenticated.release()
                if not self._closed.is_set():  # too many open files, or a peer that has gone: the next may be a rank
                    log.warning("A connection to the driver could not be accepted: %s", error)
                    self._closed.wait(_ACCEPT_PAUSE_SECONDS)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="relay-rank", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        rank = None
        try:
            lines = _LineReader(connection)
            if not self._authenticate(connection, lines):
                return
            with self._lock:
                if self._closed.is_set():
                    return
                self._connections.add(connection)
            while (line := lines.read()) is not None:
                if rank is None:
                    rank = int(json.loads(line)["rank"])
                    continue
                self.events.put(events.received(events.loads(line), rank, time.time()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            if rank is not None:  # a rank that died in mid-line, or sent what is no event
                log.debug("The connection of rank %d ended: %s", rank, error)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()
            if rank is not None:
                self.events.put(Disconnected(rank=rank, time=time.time()))

    def _authenticate(self, connection: socket.socket, lines: _LineReader) -> bool:
        """Whether the other end proves in time that it knows the secret."""
        # Not a timeout of the socket: it would begin anew with each byte that arrives.
        limit = threading.Timer(self._handshake_seconds, _shut_down, [connection])
        limit.daemon = True
        limit.start()
        try:
            return _handshake(connection, lines, self.secret, b"driver", b"rank")
        finally:
            limit.cancel()
            self._unauthenticated.release()

    def close(self) -> None:
        """Close the connection of every rank, which ends their processes, and stop listening."""
        with self._lock:
            self._closed.set()
            connections = list(self._connections)
        for connection in [self._server, *connections]:
            _shut_down(connection)
        self._server.close()


class DriverConnection:
    """A rank's end of the relay."""

    def __init__(self, address: tuple[str, int], secret: str, rank: int) -> None:
        self._lock = threading.Lock()
        self._connection = socket.create_connection(address, timeout=_HANDSHAKE_SECONDS)
        lines = _LineReader(self._connection)
        if not _handshake(self._connection, lines, secret, b"rank", b"driver"):
            raise ConnectionError(f"the driver at {address[0]}:{address[1]} does not know the secret of this run")
        self._connection.settimeout(None)
        self.closed = threading.Event()
        self.send_line(json.dumps({"rank": rank}))
        threading.Thread(target=self._wait_for_end, args=(lines,), name="driver-connection", daemon=True).start()

    def _wait_for_end(self, lines: _LineReader) -> None:
        with contextlib.suppress(OSError):  # a reset is an end as well
            while lines.read() is not None:
                continue
        self.closed.set()

    def send(self, event: Event) -> None:
        """Send one event; a dead connection sets ``closed`` and is not an error here."""
        self.send_line(events.dumps(event))

    def send_line(self, line: str) -> None:
        """Send an event that is JSON already."""
        try:
            with self._lock:
                self._connection.sendall(line.encode() + b"\n")
        except OSError:
            self.closed.set()

    def close(self) -> None:
        _shut_down(self._connection)  # the thread that waits for the driver holds the socket open otherwise
        self._connection.close()
