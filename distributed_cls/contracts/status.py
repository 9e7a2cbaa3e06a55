"""``status.json``: how a run stands while it goes on, for programs that watch it; each version of it is whole."""

import enum
import json
from dataclasses import dataclass
from pathlib import Path

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.contracts.events import Metrics
from distributed_cls.errors import UserError

FILE = "status.json"
SCHEMA_VERSION = 1


class State(str, enum.Enum):
    """Whether a run goes on, and how it ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Status:
    """How a run stands. Times are seconds since the epoch by the driver's clock."""

    job: str
    began: float
    updated: float  # at least every few seconds while ranks train
    pid: int  # of the driver: a run whose process is gone is not running, whatever its file says
    state: State = State.RUNNING
    stage: str = ""  # as in summary.json's seconds
    attempt: int = 0  # of the ranks
    epoch: int | None = None  # the one in progress, from 1 on
    epochs: int | None = None
    step: int | None = None  # finished steps
    steps: int | None = None
    seconds_left: float | None = None  # of the training, at the throughput so far
    train: Metrics | None = None  # the latest, of rank 0's own images within an epoch
    val: Metrics | None = None  # of the latest epoch
    error: str | None = None


def write(folder: Path, status: Status) -> None:
    """Write ``status.json`` into the run folder, whole or not at all."""
    storage.write_text(folder / FILE, codec.dumps({"schema_version": SCHEMA_VERSION, **codec.to_plain(status)}) + "\n")


def read(folder: Path) -> Status:
    """The status of the run in ``folder``. Raises UserError: absent, damaged, or of a newer version."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        codec.take_version(content, SCHEMA_VERSION)
        return codec.from_plain(Status, content)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"Expected the status of a run at {path}. Received: {type(error).__name__}: {error}. "
            "Give the folder of a run."
        ) from error
