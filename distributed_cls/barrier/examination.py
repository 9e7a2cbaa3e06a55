"""What a barrier task of ``job=doctor`` does: look around at its place, reach every other task, and try TensorFlow.

Runs in a Spark Python worker. Top-level and importable, so that Spark ships its name, not its code.
"""

import contextlib
import dataclasses
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import distributed_cls
from distributed_cls.barrier import rendezvous
from distributed_cls.barrier.ports import endpoint, held_port
from distributed_cls.barrier.rank_process import environment
from distributed_cls.contracts import node_report
from distributed_cls.contracts.node_report import NodeReport, PeerFound, PlaceFound, ProbeResult
from distributed_cls.storage import reason_of

if TYPE_CHECKING:
    from pyspark import BarrierTaskContext

_PACKAGES = ("tensorflow", "keras", "numpy", "pyspark")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_PEER_SECONDS = 5.0
_MIB = 2**20


def examine(
    *,
    places: dict[str, str],
    marker: str,
    driver: tuple[str, int],
    threads: int,
    probe_seconds: float,
    ports: range | None = None,
) -> str:
    """The reports of all tasks, as JSON text (``contracts/node_report.py``).

    places: folder by setting, in each of which the driver has left a file called ``marker``; driver: an address of it;
    probe_seconds: limit of the attempt with TensorFlow; ports: those to choose from, any when None.
    """
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    with held_port(ports) as port:
        own = _look_around(context.partitionId(), rendezvous.own_address(driver), port, places, marker)
        with _answering(port):
            everyone = _exchange(context, own)
            clock = time.time()  # all leave the exchange together
            own = dataclasses.replace(own, clock=clock, peers=[_reach(peer) for peer in everyone if peer != own])
            everyone = _exchange(context, own)  # all have reached all before any stops to answer
        if not any(peer.trouble for report in everyone for peer in report.peers):
            own = dataclasses.replace(own, probe=_probe(everyone, own.rank, threads, probe_seconds))
        return node_report.dumps(_exchange(context, own))


def _exchange(context: "BarrierTaskContext", own: NodeReport) -> list[NodeReport]:
    """The reports of all ranks, in their order."""
    return [report for text in context.allGather(node_report.dumps([own])) for report in node_report.loads(text)]


def _look_around(rank: int, host: str, port: int, places: dict[str, str], marker: str) -> NodeReport:
    return NodeReport(
        rank,
        host,
        port,
        name=socket.gethostname(),
        versions=_versions(),
        cores=len(os.sched_getaffinity(0)),
        gpus=rendezvous.visible_gpus(),
        available_mib=psutil.virtual_memory().available // _MIB,
        scratch_mib=shutil.disk_usage(tempfile.gettempdir()).free // _MIB,
        proxies=[name for name in _PROXIES if os.environ.get(name) or os.environ.get(name.upper())],
        places=[_look_at(setting, Path(path), marker) for setting, path in places.items()],
    )


def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "java": _java(), "distributed_cls": distributed_cls.__version__}
    return own | {package: rendezvous.installed_version(package) for package in _PACKAGES}


def _java() -> str:
    """The release of the Java process that this Python worker belongs to: its ``release`` file says it."""
    for parent in psutil.Process().parents():
        with contextlib.suppress(psutil.Error, OSError):
            home = Path(parent.exe()).parent.parent
            if parent.name() == "java" or (home / "lib" / "modules").exists():
                for line in (home / "release").read_text(encoding="utf-8").splitlines():
                    if line.startswith("JAVA_VERSION="):
                        return line.partition("=")[2].strip('"')
    return "unknown"


def _look_at(setting: str, folder: Path, marker: str) -> PlaceFound:
    """Read what the driver has written there, and leave an answer."""
    shared, trouble = False, None
    try:
        shared = (folder / marker).is_file()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        trouble = reason_of(error)
    free = shutil.disk_usage(folder).free // _MIB if folder.is_dir() else None
    return PlaceFound(setting, str(folder), shared, trouble, free)


@contextlib.contextmanager
def _answering(port: int) -> Iterator[None]:
    """Send every caller its byte back, where TensorFlow will listen later."""
    # As TensorFlow's own server does: at IPv6 addresses, too.
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", port), family=family, dualstack_ipv6=dual) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # the server is closed: all are done
                while True:
                    caller, _ = server.accept()
                    with caller, contextlib.suppress(OSError):
                        caller.settimeout(_PEER_SECONDS)
                        caller.sendall(caller.recv(1))

        threading.Thread(target=answer, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _reach(peer: NodeReport) -> PeerFound:
    """A round trip to another rank's port, after the connection is made."""
    try:
        with socket.create_connection((peer.host, peer.port), timeout=_PEER_SECONDS) as connection:
            began = time.perf_counter()
            connection.sendall(b"?")
            if connection.recv(1) != b"?":
                return PeerFound(peer.rank, trouble="something else answers at its port")
            return PeerFound(peer.rank, round(1000 * (time.perf_counter() - began), 3))
    except OSError as error:
        return PeerFound(peer.rank, trouble=f"{endpoint(peer.host, peer.port)}: {reason_of(error)}")


def _probe(everyone: Sequence[NodeReport], rank: int, threads: int, limit: float) -> ProbeResult:
    """TensorFlow in a process of its own, as a rank has it, with the other ranks."""
    variables = environment(threads, (), rendezvous.tf_config(everyone, rank), [peer.host for peer in everyone])
    command = [sys.executable, "-m", "distributed_cls.training.probe"]
    try:
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return ProbeResult(trouble=f"no sum within {limit:g} s")
    try:
        return node_report.load_probe(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = [line for line in ended.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        return ProbeResult(trouble=f"exit code {ended.returncode}: {last[0][:300]}")
