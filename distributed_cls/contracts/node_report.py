"""What a barrier task of ``job=doctor`` found at its place; it travels from each task to all others and the driver."""

import json
from dataclasses import dataclass, field

from distributed_cls.contracts import codec


@dataclass(frozen=True)
class PlaceFound:
    """A folder of the job, as one rank sees it."""

    setting: str  # dataset_root or hydra.run.dir
    path: str
    shared: bool  # the file that the driver has left there can be read
    trouble: str | None = None  # why it cannot be read or written
    free_mib: int | None = None


@dataclass(frozen=True)
class PeerFound:
    """How one rank reached another one's port."""

    rank: int
    milliseconds: float | None = None  # a round trip, None when there was none
    trouble: str | None = None


@dataclass(frozen=True)
class ProbeResult:
    """What TensorFlow did in a process of its own, together with the other ranks."""

    gpus: int = 0  # that TensorFlow sees
    latency_ms: float | None = None  # median of an all-reduce of one number
    mib_per_second: float | None = None  # of an all-reduce of 16 MiB: its bytes by its seconds
    trouble: str | None = None


@dataclass(frozen=True)
class NodeReport:
    """One rank's place."""

    rank: int
    host: str  # IP address
    port: int
    name: str  # of the machine
    versions: dict[str, str]  # python, java and packages
    cores: int
    gpus: int  # that Spark gives to the task
    available_mib: int  # memory
    scratch_mib: int  # free where Spark's Python workers write
    proxies: list[str]  # variables that name a proxy
    places: list[PlaceFound]
    clock: float | None = None  # seconds since the epoch, right after a barrier
    peers: list[PeerFound] = field(default_factory=list)
    probe: ProbeResult | None = None


def dumps(reports: list[NodeReport]) -> str:
    """Reports as JSON text. No version of their own: all tasks run the driver's code."""
    return json.dumps(codec.to_plain(reports), allow_nan=False)


def loads(text: str) -> list[NodeReport]:
    """The reports again. Raises ValueError when they are damaged."""
    return [codec.from_plain(NodeReport, item) for item in json.loads(text)]


def dump_probe(result: ProbeResult) -> str:
    """A probe's result as one line of JSON."""
    return codec.dumps(result)


def load_probe(text: str) -> ProbeResult:
    """The probe's result again. Raises ValueError when it is damaged."""
    return codec.from_plain(ProbeResult, json.loads(text))
