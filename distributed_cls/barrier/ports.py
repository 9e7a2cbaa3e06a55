"""TCP ports of the ranks and of the control line: any that is free, or one of a fixed range; IPv4 and IPv6 alike."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from distributed_cls.errors import UserError

T = TypeVar("T")


@contextlib.contextmanager
def held_port(ports: range | None = None) -> Iterator[int]:
    """Hold a free TCP port, of ``ports`` or of the system's choice, until the block ends.

    The socket is bound with SO_REUSEADDR but does not listen, so TensorFlow's server can bind the same port while
    nobody else is given it (Linux). Probing a port and letting it go, as is common, leaves a gap to lose it in. Raises
    UserError when all of ``ports`` are in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        if ports is not None:
            # Another rank that holds a port of the range has SO_REUSEADDR as well, and two such sockets would share it:
            # so this one is bound without. A port whose last connection has ended a moment ago is passed over, too.
            first_free(ports, lambda port: holder.bind(("", port)))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ports is None:
            holder.bind(("", 0))
        yield holder.getsockname()[1]


def listening(host: str, ports: range | None = None) -> socket.socket:
    """A socket that listens at ``host``, a name or an address of this machine, at a port of ``ports`` or any.

    Raises UserError when all of ``ports`` are in use, OSError when ``host`` is not of this machine.
    """
    family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    def listen(port: int) -> socket.socket:
        return socket.create_server((str(address[0]), port), family=family)

    return listen(0) if ports is None else first_free(ports, listen)


def first_free(ports: range, use: Callable[[int], T]) -> T:
    """What ``use`` gives for the first of ``ports`` that is not in use here."""
    for port in ports:
        try:
            return use(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise UserError(
        f"Expected a free port of cluster.ports={ports[0]}-{ports[-1]} on {socket.gethostname()}. Received: all "
        f"{len(ports)} are in use. Widen it: a machine needs two for each rank, the driver one."
    )


def endpoint(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
