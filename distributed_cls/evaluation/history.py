"""What happened during training, read back from ``metrics.jsonl`` as curves."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from distributed_cls.contracts import events
from distributed_cls.contracts.events import EpochEnded, TrainProgressed
from distributed_cls.evaluation.labels import plural

log = logging.getLogger(__name__)

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
    """Read ``metrics.jsonl``; a missing file is an empty history.

    A run that was killed leaves a line cut off, at the end or, once it was resumed, before the lines that follow. The
    curves do without such lines, and one warning says how many there are: a report must not fail for them.
    """
    if not path.exists():
        return History()
    history, damaged = History(), []
    # Not splitlines(): it also splits at characters that JSON has inside of texts.
    lines = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = events.loads(line)
        except ValueError:
            damaged.append(line_number)
            continue
        if isinstance(event, EpochEnded):
            history.epochs.append(event)
        elif isinstance(event, TrainProgressed):
            history.progress.append(event)
    if damaged:
        first = f"first: line {damaged[0]}"
        log.warning("%s: %s could not be read and left out (%s)", path, plural(len(damaged), "line"), first)
    history.epochs.sort(key=lambda event: event.time)
    history.progress.sort(key=lambda event: event.time)
    return history
