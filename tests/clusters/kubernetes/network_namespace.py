"""A network of the tests' own: one bridge, in a namespace that nothing outside of it can reach."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

GATEWAY = "10.88.0.1"  # the machine's own address on the bridge
BRIDGE = "pods"
_CLONE_NEWNET = 0x40000000
# The bridge's hardware address is fixed: it would otherwise change with each pod that goes, and all others would lose
# the driver for two minutes.
_BEGIN = f"""set -e
ip link set lo up
ip link add {BRIDGE} address 02:00:0a:58:00:01 type bridge
ip addr add {GATEWAY}/24 dev {BRIDGE}
ip link set {BRIDGE} up
exec "$0" "$@"
"""


class NetworkNamespace:
    """A network that begins and ends with one process: ``start`` starts it."""

    def start(self, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start ``command`` in a new network; it is killed with this process."""
        with log.open("ab") as stream:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", _BEGIN, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.path = f"/proc/{process.pid}/ns/net"
        return process

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to run in this network."""
        return ["nsenter", f"--net={self.path}"]

    def connect(self, port: int, timeout: float | None) -> socket.socket:
        """A TCP connection from this process to ``port`` of the gateway. Raises OSError."""
        return self._inside(lambda: socket.create_connection((GATEWAY, port), timeout))

    def _inside(self, work: Callable[[], T]) -> T:
        """The result of ``work``, from a thread that is in this network: a socket stays where it was made."""
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(self.path).open("rb") as namespace:
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), self.path)
                outcome.set_result(work())
            except BaseException as error:  # raised again in the thread that waits
                outcome.set_exception(error)

        threading.Thread(target=run, name="in-network", daemon=True).start()
        return outcome.result()
