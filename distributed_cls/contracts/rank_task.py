"""What the driver asks of a rank, and what comes back: both travel as JSON text, never as pickled objects."""

import enum
import json
from dataclasses import dataclass, field
from typing import TypeVar

from distributed_cls.config import Config, from_dict, to_dict
from distributed_cls.contracts import codec
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.evaluation_counts import EvaluationCounts

SCHEMA_VERSION = 6

T = TypeVar("T")


class Step(str, enum.Enum):
    """A part of a rank's work; those that are asked for are done in this order."""

    MEASURE = "measure"  # how long training takes; the only step of its task
    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPORT = "export"


@dataclass(frozen=True)
class RankTask:
    """What all ranks of a stage do together."""

    config: Config
    dataset: str  # folder of the prepared data set, as every rank sees it
    fingerprint: str  # of that data set
    run_folder: str  # absolute, as every rank sees it
    steps: tuple[Step, ...]
    start_weights: str | None = None  # with Step.TRAIN: the file with the weights that the backbone begins from
    # Folder of the frozen backbone's output for each image (``features.py``), from which the head alone is computed.
    features: str | None = None
    first_phase: "TrainResult | None" = None  # what it came to; None: this is the first phase, or the only one
    checkpoint: str | None = None  # without Step.TRAIN: the weights to evaluate or export
    confidence: Confidence | None = None  # what is to be evaluated; None: fitted on the val split
    every_class: bool = False  # predictions with the probability of every class, not of the most probable ones
    threads: int = 1  # CPU threads of each rank
    plugins: tuple[str, ...] = ()  # modules that register models from outside the package
    # Whether this command has found no checkpoint: if then all that it wrote are damaged, it begins again.
    began_here: bool = False


@dataclass(frozen=True)
class RankAssignment:
    """The part of one rank: what its agent hands to its process."""

    task: RankTask
    rank: int
    world_size: int


@dataclass(frozen=True)
class TrainResult:
    """What training came to. The metrics are those of the last epoch over the whole train split."""

    epochs: int
    steps: int
    best_epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    val_accuracy: float | None = None  # of the best epoch
    val_loss: float | None = None
    first_phase_epochs: int | None = None  # how many of them were in the first of two phases


@dataclass(frozen=True)
class TrainPace:
    """How long a step of training and a validation take, seconds, and how many steps an epoch has."""

    step: float
    validation: float
    steps: int  # of an epoch
    measured: float  # seconds that measuring took, the tracing of the graphs not among them


@dataclass(frozen=True)
class RankResult:
    """What a rank returns: the same on every rank, because all of it was summed over the ranks."""

    train: TrainResult | None = None
    counts: dict[str, EvaluationCounts] = field(default_factory=dict)  # of each evaluated split
    confidence: Confidence | None = None  # that they were counted with
    pace: TrainPace | None = None  # of Step.MEASURE


codec.register(Config, to_dict, from_dict)


def dump_task(task: RankTask) -> str:
    """The task as JSON text."""
    return _dump(task)


def load_task(text: str) -> RankTask:
    """The task again, its configuration checked. Raises ValueError: damaged, or of another version."""
    return _load(RankTask, text)


def dump_assignment(assignment: RankAssignment) -> str:
    """The assignment as one line of JSON."""
    return _dump(assignment)


def load_assignment(text: str | bytes) -> RankAssignment:
    """The assignment again. Raises ValueError: damaged, or of another version."""
    return _load(RankAssignment, text)


def plugins_of(text: str | bytes) -> list[str]:
    """The plug-in modules of a task or an assignment: they register its settings, so they are imported first."""
    content = json.loads(text)
    return [str(name) for name in content.get("task", content)["plugins"]]


def _dump(value: object) -> str:
    return codec.dumps({"schema_version": SCHEMA_VERSION, **codec.to_plain(value)})


def _load(kind: type[T], text: str | bytes) -> T:
    content = json.loads(text)
    version = content.pop("schema_version", None) if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"expected a {kind.__name__} of schema version {SCHEMA_VERSION}, received {version!r}")
    return codec.from_plain(kind, content)
