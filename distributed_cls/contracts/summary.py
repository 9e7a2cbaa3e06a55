"""``summary.json``: what a run did and what came of it, for people and for other programs."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_cls import storage
from distributed_cls.contracts import codec, predicted
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.contracts.predicted import PredictionSummary
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.errors import UserError

# Version 1 had no number, version 2 nothing of ROC AUC, bootstrap and confidence, version 3 no workers of an
# attempt and no slow ranks, version 4 no threshold but of confidence.
SCHEMA_VERSION = 5
FILE = "summary.json"


@dataclass(frozen=True)
class DatasetEntry:
    """The prepared data set of a run. ``counts``: split → class → images."""

    name: str
    fingerprint: str
    path: str
    classes: list[str]
    counts: dict[str, dict[str, int]]
    reused: bool = False
    rejected: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    rejects: list[dict[str, str]] = field(default_factory=list)  # the first few: path, reason, detail
    channels: int = 3  # of its images

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetEntry":
        """What its manifest says of a prepared data set."""
        manifest = dataset.manifest
        return cls(
            name=manifest.name,
            fingerprint=manifest.fingerprint,
            path=dataset.path,
            classes=list(manifest.classes),
            counts=manifest.counts,
            reused=dataset.reused,
            rejected=manifest.rejected,
            rejected_by_reason=manifest.rejected_by_reason,
            rejects=manifest.rejects,
            channels=manifest.channels,
        )


@dataclass(frozen=True)
class SplitEntry:
    """The metrics of an evaluated split: shares in [0, 1], the loss in nats per image."""

    examples: int
    correct: int
    accuracy: float
    accuracy_interval: list[float]  # 95 %, Wilson
    loss: float | None  # log loss: mean cross-entropy; None when it is not finite
    top_k: int
    top_k_accuracy: float
    balanced_accuracy: float
    macro_f1: float
    calibration_error: float
    roc_auc: float | None = None  # macro one-vs-rest; None where it is undefined or was not counted
    accuracy_bootstrap: list[float] | None = None  # 95 %, percentiles
    unscaled_loss: float | None = None  # before temperature scaling
    unscaled_calibration_error: float | None = None
    coverage: float | None = None  # share of the images whose answer counts
    accepted_accuracy: float | None = None  # of these; 0 without any


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt of the training stage that ended without a result."""

    number: int
    cause: str  # a FailureKind
    message: str
    seconds: float
    workers: int | None = None  # that it had; None: not told, before version 4


@dataclass(frozen=True)
class SlowRank:
    """A rank that was steadily slower than the others."""

    rank: int
    host: str
    factor: float  # its own seconds for an image, by those of the others (their median)


@dataclass(frozen=True)
class Summary:
    """What ``summary.json`` holds; a field is None, or empty, where the job has nothing to say of it."""

    job: str
    seconds: dict[str, float]  # per stage, and ``total``
    config: dict[str, Json]
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    dataset: DatasetEntry | None = None
    workers: int | None = None
    attempts: int | None = None  # of the training stage, the successful one included
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    slow_ranks: list[SlowRank] = field(default_factory=list)
    train: TrainResult | None = None
    confidence: Confidence | None = None  # of the model that was evaluated
    val: SplitEntry | None = None
    test: SplitEntry | None = None
    verified: list[str] = field(default_factory=list)  # job=verify: folders
    prediction: PredictionSummary | None = None  # job=predict and job=stream


_REQUIRED = ("schema_version", "job", "seconds", "config")


def write(folder: Path, summary: Summary) -> None:
    """Write ``summary.json`` into the run folder, whole or not at all; what a job says nothing of is left out."""
    content = {"schema_version": SCHEMA_VERSION, **codec.to_plain(summary)}
    kept = {name: value for name, value in content.items() if name in _REQUIRED or value not in (None, [], {})}
    storage.write_text(folder / FILE, codec.dumps(kept, indent=2) + "\n")


def read(folder: Path, remedy: str) -> Summary:
    """The summary of a run folder, of version 1 as well. Raises UserError: missing, damaged, or of a newer version."""
    path = folder / FILE
    content = storage.read_json(path, "the summary of a run", remedy)
    try:
        version = codec.take_version(content, SCHEMA_VERSION)
        return codec.from_plain(Summary, _upgraded(content) if version == 1 else content, FILE)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"Expected the summary of a run at {path}. Received: {error}. {remedy}") from None


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """A summary of version 1 with the fields of this one."""
    known = {item.name for item in dataclasses.fields(Summary)}
    upgraded = {name: value for name, value in content.items() if name in known}
    if content["job"] in ("predict", "stream"):
        upgraded["prediction"] = predicted.upgraded(content)
    for split in ("val", "test"):
        if split in upgraded:
            entry = dict(upgraded[split])
            upgraded[split] = {**entry, "top_k": 5, "top_k_accuracy": entry.pop("top5_accuracy")}
            del upgraded[split]["top5_accuracy"]
    return upgraded
