"""What happened during training, read back from ``metrics.jsonl`` as curves."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_cls.errors import UserError

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class History:
    """Events of a run: those at the end of an epoch and those on the way, each in order of time."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    progress: list[dict[str, Any]] = field(default_factory=list)

    def per_epoch(self, split: str, metric: str) -> Curve:
        """(epoch, value) of a metric of ``split``. An epoch that a restarted attempt repeated counts as last seen."""
        return _curve((event["epoch"], event["values"].get(metric)) for event in self.epochs if event["split"] == split)

    def learning_rate(self) -> Curve:
        """(step, learning rate), from the densest events that tell it."""
        for events in (self.progress, self.epochs):
            curve = _curve((event["step"], event["values"].get("learning_rate")) for event in events)
            if len(curve) > 1:
                return curve
        return []

    def throughput(self) -> Curve:
        """(seconds since the first event, training images per second of all ranks)."""
        events = self.progress if len(self.progress) > 1 else self.epochs
        events = [event for event in events if event["split"] == "train" and "time" in event]
        speeds = [(event["time"] - events[0]["time"], event["values"].get("images_per_second")) for event in events]
        return _curve((seconds, speed) for seconds, speed in speeds if speed)  # 0: nothing timed yet


def _curve(points: Iterable[tuple[Any, Any]]) -> Curve:
    """Points in order of x; the last of several at one x; those without a finite value are left out."""
    latest = {float(x): float(y) for x, y in points if x is not None and y is not None}
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
            decoded = json.loads(line)
            if decoded["event"] not in ("epoch", "progress"):
                continue  # Other events, such as the phases of a rank, are no measurements.
            event = _event(decoded)
        except (KeyError, TypeError, ValueError) as error:
            if line_number == len(lines):
                break  # The run was ended while this line was being written.
            raise UserError(
                f"Expected {path} to hold one event of training per line. Received: line {line_number} is damaged "
                f"({error!r}). Remove that line and write the report again."
            ) from error
        (history.epochs if event["event"] == "epoch" else history.progress).append(event)
    for events in (history.epochs, history.progress):
        events.sort(key=lambda event: event.get("time", 0))
    return history


def _event(event: Any) -> dict[str, Any]:
    """Check one decoded line. ``split`` may be missing on the way, where only training is measured."""
    values = {name: float(value) for name, value in dict(event["values"]).items() if isinstance(value, int | float)}
    kept = {key: event.get(key) for key in ("epoch", "step")}
    clock = {"time": float(event["time"])} if event.get("time") is not None else {}
    return {"event": str(event["event"]), "split": event.get("split", "train"), "values": values, **kept, **clock}
