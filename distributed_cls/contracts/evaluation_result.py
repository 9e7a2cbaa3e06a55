"""``evaluation.json``: the exact counts of each evaluated split, and its most confident mistakes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.contracts.counts import Counts
from distributed_cls.contracts.evaluation_counts import ProbabilityCounts
from distributed_cls.contracts.events import Mistake
from distributed_cls.errors import UserError

# Version 1 had no number, and the counts and the mistakes of a split in one mapping; 2 had no ``probabilities``.
SCHEMA_VERSION = 3
FILE = "evaluation.json"


@dataclass(frozen=True)
class EvaluatedSplit:
    """What the evaluation of a split found."""

    counts: Counts
    mistakes: list[Mistake] = field(default_factory=list)  # most confident first
    probabilities: ProbabilityCounts | None = None  # an earlier release did not count them


def write(folder: Path, splits: dict[str, EvaluatedSplit]) -> None:
    """Write ``evaluation.json`` into the run folder, whole or not at all."""
    content = {"schema_version": SCHEMA_VERSION, "splits": codec.to_plain(splits)}
    storage.write_text(folder / FILE, codec.dumps(content, indent=2) + "\n")


def read(folder: Path, remedy: str) -> dict[str, EvaluatedSplit]:
    """The evaluated splits of a run folder. Raises UserError: missing, damaged, newer, or without any split."""
    path = folder / FILE
    content = storage.read_json(path, "the counts of an evaluation", remedy)
    try:
        version = codec.take_version(content, SCHEMA_VERSION)
        plain = _upgraded(content) if version == 1 else content["splits"]
        splits = {name: codec.from_plain(EvaluatedSplit, split, name) for name, split in plain.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"Expected {path} to hold the counts of each split. Received: {error}. {remedy}") from None
    if not splits:
        raise UserError(f"Expected {path} to hold the counts of val or test. Received: neither. {remedy}")
    return splits


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    return {name: {"counts": split, "mistakes": split.get("mistakes", [])} for name, split in content.items() if split}
