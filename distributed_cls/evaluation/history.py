"""What happened during training, read back from ``metrics.jsonl`` as curves."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from distributed_cls.contracts import events
from distributed_cls.contracts.events import EpochEnded, TrainProgressed
from distributed_cls.errors import UserError

Curve = list[tuple[float, float]]
_METRICS = ("loss", "accuracy", "images_per_second", "learning_rate")


@dataclass(frozen=True)
class History:
    """The measurements of a run, each kind in order of time."""

    epochs: list[EpochEnded] = field(default_factory=list)
    progress: list[TrainProgressed] = field(default_factory=list)

    def per_epoch(self, split: str, metric: str) -> Curve:
        """(epoch, value) of a metric of ``split``. An epoch that a restarted attempt repeated counts as last seen."""
        assert metric in _METRICS, metric
        return _curve((event.epoch, getattr(event.values, metric)) for event in self.epochs if event.split == split)

    def learning_rate(self) -> Curve:
        """(step, learning rate), from the events that report it most often."""
        for measured in (self.progress, self.epochs):
            curve = _curve((event.step, event.values.learning_rate) for event in measured)
            if len(curve) > 1:
                return curve
        return []

    def throughput(self) -> Curve:
        """(seconds since the first event, training images per second of all ranks)."""
        measured = self.progress if len(self.progress) > 1 else [e for e in self.epochs if e.split == "train"]
        rates = [(event.time - measured[0].time, event.values.images_per_second) for event in measured]
        return _curve((seconds, rate) for seconds, rate in rates if rate)  # 0: nothing timed yet

    def last_time(self) -> float | None:
        """Of the last measurement, seconds since 1970."""
        return max((event.time for event in [*self.epochs, *self.progress]), default=None)


def _curve(points: Iterable[tuple[float, float | None]]) -> Curve:
    """Points in order of x; the last of several at one x; those without a finite value are left out."""
    latest = {float(x): float(y) for x, y in points if y is not None}
    return [(x, y) for x, y in sorted(latest.items()) if math.isfinite(y)]


def read_history(path: Path) -> History:
    """Read ``metrics.jsonl``. A missing file is an empty history, and a last line cut off in mid-write is left out.

    Raises ``UserError`` with the line number for any other line that cannot be read.
    """
    if not path.exists():
        return History()
    history = History()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line_number, line in enumerate(lines, start=1):
        try:
            event = events.loads(line)
        except ValueError as error:
            if line_number == len(lines):
                break  # The run was ended while this line was being written.
            raise UserError(
                f"Expected {path} to hold one event of training per line. Received: line {line_number} is damaged "
                f"({error}). Remove that line and write the report again."
            ) from error
        if isinstance(event, EpochEnded):
            history.epochs.append(event)
        elif isinstance(event, TrainProgressed):
            history.progress.append(event)
    history.epochs.sort(key=lambda event: event.time)
    history.progress.sort(key=lambda event: event.time)
    return history
