"""What ranks report while they run: one JSON line per event, from a rank's process to its agent to the driver.

Everything that is told of a running stage is one of these classes; ``metrics.jsonl`` holds those that measure training.
The wire format is ``{"event": <kind>, "rank": …, "time": …, "v": <schema version>, <fields>}``.
"""

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from distributed_cls.contracts import codec
from distributed_cls.contracts.rank_facts import RankFacts
from distributed_cls.contracts.rank_task import RankResult

SCHEMA_VERSION = 2  # version 1 had no number; its measurements of training read the same
DRIVER = -1  # the ``rank`` of what the driver itself reports


class Phase(str, enum.Enum):
    """What a rank is doing, in the order of a run."""

    STARTING = "starting"  # its barrier task has not been heard of yet
    RENDEZVOUS = "rendezvous"  # all ranks exchange addresses and compare versions
    TENSORFLOW = "tensorflow"  # the import
    CLUSTER = "cluster"  # the distribution strategy connects to the other ranks
    DATASET = "dataset"  # shards are checked against the manifest
    MODEL = "model"  # variables are created, weights are loaded
    INPUT = "input"  # images are decoded into memory
    TRACE = "trace"  # the first training step, which traces the graph
    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPORT = "export"
    FINISH = "finish"  # the rank is done and waits for the others


class FailureKind(str, enum.Enum):
    """How an attempt can end without a result. ``barrier/policy.py`` decides what follows from it."""

    USER = "user"  # the user can fix it
    PORT = "port"  # the port of the rendezvous could not be bound
    DIVERGED = "diverged"  # the loss is no longer finite
    ERROR = "error"  # an exception in a rank; another rank's failure may have caused it
    DIED = "died"  # a rank's process ended without a word: a signal, an exit code
    STALLED = "stalled"  # no rank made progress
    STAGE = "stage"  # Spark failed the stage: an executor or a Python worker was lost
    RESIZED = "resized"  # the driver ended it after an epoch: there are slots for more workers
    INTERRUPTED = "interrupted"  # a rank was asked to end from outside, such as by a preemption; there is a checkpoint


@dataclass(frozen=True, kw_only=True)
class Event:
    """``rank`` reports something. ``time``: seconds since 1970 by the driver's clock, set on arrival (0.0 before):
    the clocks of several hosts do not agree."""

    kind: ClassVar[str]
    rank: int = DRIVER
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Event):
    """The driver starts the ranks for the ``number``-th time, of at most ``of``."""

    kind = "attempt"
    number: int
    of: int
    workers: int  # ranks of this attempt


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(Event):
    """A rank goes on to ``phase``; the rendezvous also tells the host."""

    kind = "phase"
    phase: Phase
    host: str | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseProgressed(Event):
    """``done`` of ``total`` units (bytes, batches) of the rank's phase: long work is progress, not a stall."""

    kind = "phase_progress"
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Met(Event):
    """The agent's half of a rendezvous."""

    kind = "met"
    facts: RankFacts


@dataclass(frozen=True, kw_only=True)
class ProcessStarted(Event):
    """The agent has started the rank's process."""

    kind = "started"
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class ProcessEnded(Event):
    """The rank's process has ended, whatever the reason. ``code``: its exit code, or minus the signal's number."""

    kind = "ended"
    code: int


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Event):
    """The rank's process is alive; ``step`` is the last finished training step.

    images, seconds: what the process has trained on and computed since it began, waits for other ranks not counted.
    """

    kind = "heartbeat"
    step: int
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Preempted(Event):
    """The executor of a rank ends: its agent has asked the rank for a checkpoint, which all ranks take together."""

    kind = "preempted"


@dataclass(frozen=True, kw_only=True)
class RankSlow(Event):
    """The driver has seen that a rank is steadily slower than the others, which wait for it in every step."""

    kind = "slow"
    host: str
    factor: float  # its own seconds for an image, by those of the others (their median)


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """A line for the person who watches, such as the arithmetic of the batch."""

    kind = "note"
    text: str


@dataclass(frozen=True, kw_only=True)
class LogLine(Event):
    """A line that the rank's process wrote to its standard output or error."""

    kind = "log"
    line: str


@dataclass(frozen=True)
class Metrics:
    """Means over images: ``loss`` in nats, ``accuracy`` in [0, 1]; None where it was not measured."""

    loss: float
    accuracy: float
    images_per_second: float | None = None  # of all ranks
    learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainProgressed(Event):
    """Where training stands; ``values`` are those of rank 0's own images since the last report."""

    kind = "progress"
    epoch: int  # that is being trained, from 1
    epochs: int
    step: int  # finished steps of the run
    steps: int  # of the whole run
    values: Metrics
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class EpochEnded(Event):
    """The exact metrics of a split over all ranks at the end of ``epoch``."""

    kind = "epoch"
    split: str
    epoch: int
    step: int
    values: Metrics


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly: a PNG in base64, class indices, the model's confidence in [0, 1]."""

    image: str
    key: str  # content hash, hexadecimal
    true: int
    predicted: int
    confidence: float
    path: str = ""  # of the original; the driver looks it up


@dataclass(frozen=True, kw_only=True)
class MistakesFound(Event):
    """The most confident mistakes of a rank in one split."""

    kind = "mistakes"
    split: str
    items: tuple[Mistake, ...]


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The rank ends without a result."""

    kind = "failure"
    failure: FailureKind
    message: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The rank's result. Its process stays until all ranks have theirs."""

    kind = "result"
    result: RankResult = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Disconnected(Event):
    """The driver has heard nothing of a rank's agent for ``cluster.reconnect_timeout``, or it has said goodbye."""

    kind = "disconnected"


_KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        AttemptStarted,
        PhaseStarted,
        PhaseProgressed,
        Met,
        ProcessStarted,
        ProcessEnded,
        Heartbeat,
        Preempted,
        RankSlow,
        LogLine,
        Noted,
        TrainProgressed,
        EpochEnded,
        MistakesFound,
        Failed,
        Finished,
        Disconnected,
    )
}


def dumps(event: Event) -> str:
    """The event as one line of JSON, without its end."""
    return codec.dumps({"event": event.kind, "v": SCHEMA_VERSION, **codec.to_plain(event)})


def loads(line: str | bytes) -> Event:
    """The event of a line. Raises ValueError: damaged, of an unknown kind, or of a newer version."""
    return from_content(json.loads(line))


def from_content(content: Any) -> Event:
    """The event of JSON values. Raises ValueError as ``loads`` does."""
    if not isinstance(content, dict):
        raise ValueError(f"expected an event, received {str(content)[:80]!r}")
    version = content.pop("v", 1)
    if version not in (1, SCHEMA_VERSION):
        raise ValueError(f"expected an event of schema version {SCHEMA_VERSION} or older, received {version!r}")
    name = content.pop("event", None)
    if name not in _KINDS:
        raise ValueError(f"expected an event of the kinds {', '.join(_KINDS)}, received {name!r}")
    return codec.from_plain(_KINDS[name], content, f"event {name}")


def received(event: Event, rank: int, now: float) -> Event:
    """The event as the driver keeps it: of the rank that its connection belongs to, at the driver's time."""
    return dataclasses.replace(event, rank=rank, time=now)
