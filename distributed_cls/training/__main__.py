"""The warm process: ``python -m distributed_cls.training``.

``--agent FD``: the socket of the one agent that it serves. ``--listen FD --owner FD``: the socket on which agents of
this machine call, and one that ends with the process that has started this one.
"""

import argparse
import signal
import socket

from distributed_cls.training import parent


def main() -> None:
    # Ctrl-C reaches the whole process group; who started this process decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    for name in ("--agent", "--listen", "--owner"):
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    parent.die_with(given.parent)
    agent, listener, owner = (
        None if descriptor is None else socket.socket(fileno=descriptor)
        for descriptor in (given.agent, given.listen, given.owner)
    )

    # Seconds; what is asked for meanwhile waits in the sockets.
    from distributed_cls.models.tensorflow_import import import_tensorflow

    import_tensorflow()
    from distributed_cls.training import start  # noqa: F401 - what every rank needs
    from distributed_cls.training.fork_server import ForkServer

    parent.outlive()  # its sockets tell it from now on
    ForkServer(agent, listener, owner).serve()


if __name__ == "__main__":
    main()
