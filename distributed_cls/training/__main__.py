"""The warm process: ``python -m distributed_cls.training`` with ``--agent FD`` (of one agent) or ``--listen FD``."""

import argparse
import signal
import socket

from distributed_cls.training import parent


def main() -> None:
    # Ctrl-C reaches the whole process group; who started this process decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--agent", type=int)
    place.add_argument("--listen", type=int)
    given = parser.parse_args()
    parent.die_with(given.parent)
    clients = [] if given.agent is None else [socket.socket(fileno=given.agent)]
    listener = None if given.listen is None else socket.socket(fileno=given.listen)

    # Seconds; what is asked for meanwhile waits in the sockets.
    from distributed_cls.models.tensorflow_import import import_tensorflow

    import_tensorflow()
    from distributed_cls.training import start  # noqa: F401 - what every rank needs
    from distributed_cls.training.fork_server import ForkServer

    ForkServer(clients, listener).serve()


if __name__ == "__main__":
    main()
