"""One authenticated connection between the driver and an agent, and the frames on it.

Each side proves that it knows the secret of the crew without sending it (HMAC-SHA256 over the other's nonce). From both
nonces follows a key for this connection alone; every frame carries an HMAC over its direction, its number on the
connection, and its body. So a frame that was made up, changed, repeated, left out, turned round, or recorded on another
connection ends the connection unread. Nothing is encrypted, and nothing is unpickled.
"""

import contextlib
import hashlib
import hmac
import secrets
import socket
import struct
import threading

NONCE_BYTES = 32
MAX_BODY_BYTES = 64 * 2**20  # an event with a gallery of images is a few MB
_MAC_BYTES = hashlib.sha256().digest_size
_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")

DRIVER, AGENT = b"driver", b"agent"  # the directions


class ChannelError(ConnectionError):
    """The other end has sent what does not belong on this connection."""


class Channel:
    """Frames in both directions. ``send`` may be called from several threads, ``receive`` from one."""

    def __init__(self, connection: socket.socket, key: bytes, own: bytes, peer: bytes) -> None:
        self._connection, self._key, self._own, self._peer = connection, key, own, peer
        self._lock = threading.Lock()
        self._sent = self._received = 0

    def send(self, body: bytes) -> None:
        """Send one frame. Raises OSError when the connection is gone."""
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"a message of {len(body)} bytes is more than {MAX_BODY_BYTES}")
        with self._lock:
            mac = self._mac(self._own, self._sent, body)
            self._sent += 1
            self._connection.sendall(_LENGTH.pack(len(body)) + mac + body)

    def receive(self) -> bytes | None:
        """The body of the next frame; None at the end of the connection.

        Raises ChannelError for a frame that the other end cannot have sent, OSError when the connection breaks, and
        TimeoutError (an OSError) after the socket's own limit.
        """
        start = _exactly(self._connection, _LENGTH.size)
        if start is None:
            return None
        (length,) = _LENGTH.unpack(start)
        if length > MAX_BODY_BYTES:
            raise ChannelError(f"a frame of {length} bytes")
        rest = _exactly(self._connection, _MAC_BYTES + length)
        if rest is None:
            return None
        mac, body = rest[:_MAC_BYTES], rest[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(self._peer, self._received, body)):
            raise ChannelError("a frame that was made up, changed or repeated")
        self._received += 1
        return body

    def _mac(self, direction: bytes, number: int, body: bytes) -> bytes:
        return hmac.new(self._key, direction + _NUMBER.pack(number) + body, hashlib.sha256).digest()

    def close(self) -> None:
        """End the connection, also for a thread that is blocked in it."""
        shut_down(self._connection)
        self._connection.close()


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    """``count`` bytes, or None when the connection ends before."""
    received = bytearray()
    while len(received) < count:
        block = connection.recv(min(count - len(received), 2**20))
        if not block:
            return None
        received += block
    return bytes(received)


def shut_down(connection: socket.socket) -> None:
    """End a connection; shutdown wakes the thread that is blocked in it, close alone does not."""
    with contextlib.suppress(OSError):  # it was gone already
        connection.shutdown(socket.SHUT_RDWR)


def handshake(connection: socket.socket, secret: str, own: bytes, peer: bytes) -> Channel | None:
    """Exchange nonces and proofs; the channel, or None when the peer does not know the secret.

    The direction keeps a proof from being echoed. Nothing of variable length is read before the proof.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    connection.sendall(nonce)
    peer_nonce = _exactly(connection, NONCE_BYTES)
    if peer_nonce is None:
        return None
    connection.sendall(_proof(secret, own, peer_nonce))
    answer = _exactly(connection, _MAC_BYTES)
    if answer is None or not hmac.compare_digest(answer, _proof(secret, peer, nonce)):
        return None
    both = nonce + peer_nonce if own == DRIVER else peer_nonce + nonce
    return Channel(connection, _proof(secret, b"key", both), own, peer)


def _proof(secret: str, what: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret.encode(), what + nonce, hashlib.sha256).digest()
