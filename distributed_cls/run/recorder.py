"""What a run leaves behind: metrics.jsonl, the logs of its ranks, evaluation.json and summary.json."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from distributed_cls.storage.local_files import write_json

_GALLERY = 24  # mistakes that are kept, over all ranks
_METRICS = ("progress", "epoch")

# What a rank's phases are called in summary.json. The phase "train" lasts until the first step is done.
_STAGES = {
    "stage": "rendezvous",
    "cluster": "tensorflow",
    "dataset": "tracing",
    "model": "tracing",
    "input": "tracing",
    "train": "tracing",
    "steps": "train",
}


class Recorder:
    """Keeps the events of a stage in the run folder, and the times at which its stages began."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[int, TextIO] = {}
        self._metrics: TextIO | None = None
        self._mistakes: dict[str, list[dict[str, Any]]] = {}
        self._phases: list[tuple[float, str]] = []  # of rank 0, in the last attempt
        self._failed_seconds = 0.0  # of the attempts before it

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "attempt":
            if self._phases:
                self._failed_seconds += time.time() - self._phases[0][0]
            self._phases, self._mistakes = [(time.time(), "stage")], {}
        elif kind == "phase" and event["rank"] == 0:
            self._phases.append((event["time"], event["name"]))
        elif kind == "first_step" and event["rank"] == 0:
            self._phases.append((event["time"], "steps"))
        elif kind == "log":
            self._log(event["rank"], event["line"])
        elif kind == "mistakes":
            self._mistakes.setdefault(event["split"], []).extend(event["items"])
        elif kind in _METRICS:
            self._metric(event)

    def _log(self, rank: int, line: str) -> None:
        if rank not in self._logs:
            path = self._folder / "logs" / f"rank-{rank}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._logs[rank] = path.open("a", encoding="utf-8")
        self._logs[rank].write(line + "\n")
        self._logs[rank].flush()

    def _metric(self, event: dict[str, Any]) -> None:
        if self._metrics is None:
            self._metrics = (self._folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._metrics.write(json.dumps(event) + "\n")
        self._metrics.flush()

    def close(self) -> None:
        for stream in [*self._logs.values(), *([self._metrics] if self._metrics else [])]:
            stream.close()

    def mistakes(self, split: str) -> list[dict[str, Any]]:
        """The surest mistakes of all ranks, best known first; equal ones in the order of their keys."""
        items = sorted(self._mistakes.get(split, []), key=lambda item: (-item["confidence"], item["key"]))
        return items[:_GALLERY]

    def stage_seconds(self) -> dict[str, float]:
        """How long each stage took on rank 0 in the last attempt, in their order, after the time of failed attempts."""
        ends = [began for began, _ in self._phases[1:]] + [time.time()]
        seconds = {"failed_attempts": round(self._failed_seconds, 3)} if self._failed_seconds else {}
        for (began, phase), end in zip(self._phases, ends, strict=True):
            stage = _STAGES.get(phase, phase)
            seconds[stage] = round(seconds.get(stage, 0.0) + end - began, 3)
        return seconds


def write_evaluation(
    folder: Path, results: dict[str, Any], recorder: Recorder, paths: Callable[[list[str]], list[str]]
) -> dict[str, Any]:
    """Write evaluation.json: the exact counts of val and test, with their surest mistakes.

    ``paths`` gives the files in which the images with the given keys were found.
    """
    counted = {}
    for split in ("val", "test"):
        mistakes = recorder.mistakes(split)
        found = paths([item["key"] for item in mistakes])
        named = [{**item, "path": path} for item, path in zip(mistakes, found, strict=True)]
        counted[split] = {**results[split], "mistakes": named}
    write_json(folder / "evaluation.json", counted)
    return counted
