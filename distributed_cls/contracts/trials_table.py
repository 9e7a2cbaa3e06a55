"""``trials.json``: the trials of a sweep, best first."""

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path

from distributed_cls import storage
from distributed_cls.contracts import codec

SCHEMA_VERSION = 2  # version 1 had no number
FILE = "trials.json"


class TrialStatus(str, enum.Enum):
    """How a trial ended."""

    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class TrialRow:
    """One trial. Accuracies are in [0, 1]; what a trial does not know is None."""

    trial: int
    overrides: dict[str, str]
    run: str  # path of its run folder
    status: TrialStatus = TrialStatus.DONE
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    val_images: int | None = None  # that the accuracy is a share of
    test_images: int | None = None
    seconds: float | None = None
    reason: str | None = None  # of a trial that failed

    @property
    def failed(self) -> bool:
        return self.status is TrialStatus.FAILED


@dataclass(frozen=True)
class TrialsTable:
    """All trials of a sweep, best first, and the number of the best one."""

    best: int | None
    trials: list[TrialRow] = field(default_factory=list)


def write(folder: Path, table: TrialsTable) -> None:
    """Write ``trials.json`` into the sweep's folder, whole or not at all."""
    content = {"schema_version": SCHEMA_VERSION, **codec.to_plain(table)}
    storage.write_text(folder / FILE, codec.dumps(content, indent=2) + "\n")


def read(folder: Path) -> TrialsTable:
    """The table of a sweep's folder. Raises ValueError: damaged, or of a newer version."""
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    version = content.pop("schema_version", 1)
    if version not in (1, SCHEMA_VERSION):
        raise ValueError(f"expected a table of trials of schema version {SCHEMA_VERSION}, received {version!r}")
    return codec.from_plain(TrialsTable, content, FILE)
