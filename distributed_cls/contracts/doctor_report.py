"""``doctor.json``: what ``job=doctor`` found, one verdict for each check, for people and for other programs."""

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.errors import UserError

FILE = "doctor.json"
SCHEMA_VERSION = 1


class Grade(str, enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # a run may work, slower or on the edge
    FAULT = "fault"  # a run would be refused or fail
    UNKNOWN = "not checked"


@dataclass(frozen=True)
class Verdict:
    """One check: what was found, and what to do when it is not well."""

    check: str
    grade: Grade
    found: str
    remedy: str = ""


def dumps(checks: Sequence[Verdict]) -> str:
    """The text of ``doctor.json``, which ``--json`` prints."""
    return codec.dumps({"schema_version": SCHEMA_VERSION, "checks": list(checks)}, indent=2) + "\n"


def write(folder: Path, checks: Sequence[Verdict]) -> None:
    """Write ``doctor.json`` into the run folder, whole or not at all."""
    storage.write_text(folder / FILE, dumps(checks))


def read(folder: Path) -> list[Verdict]:
    """The verdicts of a run folder. Raises UserError: absent, damaged, or of a newer version."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        codec.take_version(content, SCHEMA_VERSION)
        return codec.from_plain(list[Verdict], content["checks"], FILE)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"Expected the verdicts of job=doctor at {path}. Received: {type(error).__name__}: {error}. "
            "Run job=doctor again."
        ) from error
