"""How ranks meet: each says where it is and what it runs; all compare, and agree or refuse together."""

import json
import os
import platform
import socket
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

import distributed_cls
from distributed_cls.barrier.ports import endpoint
from distributed_cls.contracts import manifest
from distributed_cls.contracts.rank_facts import RankFacts
from distributed_cls.errors import UserError

# What must be the same on every rank, and what to do when it is not.
_MUST_AGREE = {
    "python": "Run the same Python on every node.",
    "tensorflow": "Install the same TensorFlow on every node.",
    "keras": "Install the same Keras on every node.",
    "distributed_cls": "Install the same release on every node.",
    "dataset": "Set dataset_root to storage that every node shares.",
    "run_folder": "Set hydra.run.dir to storage that every node shares.",
    "gpus": "Use nodes with as many GPUs, or set cluster.gpus_per_worker.",
}
NOT_INSTALLED = "not installed"


def local_facts(host: str, port: int, dataset: str, marker: str) -> RankFacts:
    """What this rank tells the others. ``marker``: a file that the driver has left in the run folder."""
    return RankFacts(
        host=host,
        port=port,
        python=platform.python_version(),
        tensorflow=installed_version("tensorflow"),
        keras=installed_version("keras"),
        distributed_cls=distributed_cls.__version__,
        dataset=_fingerprint(dataset),
        run_folder=Path(marker).is_file(),
        gpus=visible_gpus(),
    )


def visible_gpus() -> int:
    """The GPUs that Spark has given to this task."""
    return len([gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu])


def installed_version(package: str) -> str:
    """The release of ``package`` that would be imported here, or NOT_INSTALLED."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _fingerprint(dataset: str) -> str:
    try:
        return manifest.load(dataset).fingerprint
    except UserError as error:
        return str(error)


def refusal(everyone: Sequence[RankFacts], dataset: str, gpus: int) -> str | None:
    """Why these ranks must not train together, as one line for the user; None when they may.

    ``everyone``: the facts of each rank; ``dataset``: the fingerprint that the driver means.
    A pure function, so that every rank and the driver come to the same answer.
    """
    expected = {
        **{name: getattr(everyone[0], name) for name in _MUST_AGREE},
        "dataset": dataset,
        "run_folder": True,
        "gpus": gpus,
    }
    for name, remedy in _MUST_AGREE.items():
        for rank, facts in enumerate(everyone):
            found, where = getattr(facts, name), f"on rank {rank} ({facts.host})"
            if found == NOT_INSTALLED:
                return f"Expected {name} on every rank. Received: not installed {where}. {remedy}"
            if found != expected[name]:
                return f"Expected {name}={expected[name]} on every rank. Received: {name}={found} {where}. {remedy}"
    return None


class Reachable(Protocol):
    """Where a rank's TensorFlow listens."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def tf_config(everyone: Sequence[Reachable], rank: int) -> str:
    """TF_CONFIG for ``rank``: IP addresses, because TensorFlow cannot resolve the pod names of Kubernetes."""
    workers = [endpoint(facts.host, facts.port) for facts in everyone]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})


def own_address(driver: tuple[str, int]) -> str:
    """The IP address of this host on the way to the driver: one that the other executors reach as well.

    Connecting a UDP socket sends nothing; it only asks the routing table.
    """
    family = socket.getaddrinfo(driver[0], driver[1], type=socket.SOCK_DGRAM)[0][0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(driver)
        return str(probe.getsockname()[0])
