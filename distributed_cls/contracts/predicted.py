"""``_summary.json`` in the output of job=predict and job=stream: what was classified, and as what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.contracts.codec import Json
from distributed_cls.errors import UserError

SCHEMA_VERSION = 3  # 1 was not written down, 2 had no ``none_of_these``
FILE = "_summary.json"
_REMEDY = "Run the job again."


@dataclass(frozen=True)
class PredictedClass:
    """How many images were classified as one class, with which mean probability."""

    images: int
    mean_confidence: float


@dataclass(frozen=True)
class UnreadImage:
    """An image that could not be classified, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class PredictionSummary:
    """The whole output in figures, and what the last start of the job added to it (``new_…``, ``seconds``)."""

    job: str
    model: str
    model_version: str
    source: str
    output: str
    images: int = 0
    classified: int = 0  # with an answer
    none_of_these: int = 0  # read, but below the model's threshold
    rejected: int = 0
    labels: dict[str, PredictedClass] = field(default_factory=dict)  # the most frequent class first
    rejects: list[UnreadImage] = field(default_factory=list)  # the first few
    labelled: int = 0  # images with an answer whose class is known
    correct: int = 0  # of these
    files: int = 0  # with rows
    new_files: int = 0
    new_images: int = 0
    seconds: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled images that are classified correctly; None without such images."""
        return self.correct / self.labelled if self.labelled else None


def write(output: str, summary: PredictionSummary) -> None:
    """Write ``_summary.json``, whole or not at all."""
    content = {"schema_version": SCHEMA_VERSION, **codec.to_plain(summary), "accuracy": summary.accuracy}
    storage.write_json(storage.join(output, FILE), content)


def read(output: str) -> PredictionSummary:
    """The summary of an output, of version 1 as well. Raises UserError: missing, damaged, or of a later version."""
    path = storage.join(output, FILE)
    content = storage.read_json(path, "the summary of a prediction", _REMEDY)
    try:
        version = content.pop("schema_version", 1)
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(f"schema version {version}, which is newer than this release's {SCHEMA_VERSION}")
        content.pop("accuracy", None)
        return codec.from_plain(PredictionSummary, upgraded(content) if version == 1 else content, FILE)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"Expected the summary of a prediction at {path}. Received: {error}. {_REMEDY}") from None


def upgraded(content: Mapping[str, Any]) -> dict[str, Json]:
    """The fields of version 1, in ``_summary.json`` or in a run's ``summary.json``, as those of this one."""
    stream = content["job"] == "stream"  # which wrote neither the model's version nor its folder
    files = content["new_batches"] if stream else content["parts"]
    new_files = files if stream else files - content["parts_done_before"]
    # A run's summary has the seconds of its stages in this place.
    seconds = content["seconds"] if isinstance(content["seconds"], int | float) else 0.0
    rate = content.get("images_per_second", 0.0)
    same = ("job", "model", "output", "images", "classified", "rejected", "labels", "rejects", "labelled")
    return {
        **{name: content[name] for name in same},
        "model_version": content.get("model_version", ""),
        "source": content.get("data.path", ""),
        "correct": content.get("correct", 0),
        "files": files,
        "new_files": new_files,
        "new_images": content["new_images"] if stream else round(seconds * rate),
        "seconds": seconds,
    }
