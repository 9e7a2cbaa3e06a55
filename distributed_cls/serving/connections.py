"""How many connections may be open: fewer than the process may have files, so that it never runs out of them."""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

from distributed_cls.errors import UserError

# asyncio accepts so many connections in one turn of its loop, and knows three turns later which of them are closed.
ACCEPTED_AT_ONCE = 16
QUEUE = 2048  # connections that the kernel holds until they are accepted
# Files beside the connections: libraries, logs, a model while it is loaded, and what is accepted but not yet counted.
_RESERVED = 64 + 6 * ACCEPTED_AT_ONCE
_FEWEST = 32
_LARGEST_LIMIT = 65_536
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b'content-length: 32\r\n\r\n{"error":"The service is busy."}'
)


def most_connections() -> int:
    """Raise the limit of open files as far as this user may, and say how many connections that leaves room for.

    Raises UserError when there are too few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LARGEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LARGEST_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    limit = _LARGEST_LIMIT if soft == resource.RLIM_INFINITY else soft
    if limit < _RESERVED + _FEWEST:
        raise UserError(
            f"Expected a limit of at least {_RESERVED + _FEWEST} open files. Received: ulimit -n is {limit}. Raise it."
        )
    return limit - _RESERVED


def bounded_protocol(most: int) -> type[asyncio.Protocol]:
    """HTTP on a connection, of which there may be ``most`` at one time; one more is told to come back and closed."""

    class BoundedProtocol(H11Protocol):
        _refused = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) < most:
                super().connection_made(transport)
                return
            self._refused = True
            transport.write(_BUSY)
            transport.close()

        def data_received(self, data: bytes) -> None:
            if not self._refused:
                super().data_received(data)

        def eof_received(self) -> None:
            if not self._refused:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            if not self._refused:
                super().connection_lost(exc)

    return BoundedProtocol
