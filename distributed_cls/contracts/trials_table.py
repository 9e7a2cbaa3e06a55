"""``trials.json``: the trials of a sweep, best first. Written when a trial begins and when it ends: what a sweep that
was interrupted goes on from."""

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path

from distributed_cls import storage
from distributed_cls.contracts import codec

# 1 had no number; 2 knew only trials that were done or had failed; 3 did not train any again;
# 4 had no order of results.
SCHEMA_VERSION = 5
FILE = "trials.json"


class TrialStatus(str, enum.Enum):
    """How a trial ended, if it did."""

    DONE = "done"
    STOPPED = "stopped"  # early, on purpose; ``reason`` tells by what rule
    UNFINISHED = "unfinished"  # it goes on, or its sweep was interrupted
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
    reason: str | None = None  # why it is not done
    curve: list[float] = field(default_factory=list)  # val accuracy at the end of each epoch
    refit_of: int | None = None  # the trial that this one repeats with another seed (sweep.refit)
    # The trials of which its sampler was told after the trial before this one; None: not noted.
    told: list[int] | None = None

    @property
    def failed(self) -> bool:
        return self.status is TrialStatus.FAILED

    @property
    def done(self) -> bool:
        return self.status is TrialStatus.DONE

    @property
    def ended(self) -> bool:
        """Whether a sweep that goes on leaves it as it is; a trial that failed is tried again."""
        return self.status in (TrialStatus.DONE, TrialStatus.STOPPED)


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
    if not isinstance(content, dict):
        raise ValueError(f"expected a table of trials, received {str(content)[:80]!r}")
    codec.take_version(content, SCHEMA_VERSION)
    return codec.from_plain(TrialsTable, content, FILE)
