"""What the events of a stage leave in the run folder: metrics.jsonl, and a log of each rank."""

import time
from pathlib import Path
from typing import TextIO

from distributed_cls.contracts import events
from distributed_cls.contracts.events import (
    AttemptStarted,
    EpochEnded,
    Event,
    LogLine,
    Mistake,
    MistakesFound,
    Phase,
    PhaseStarted,
    RankSlow,
    TrainProgressed,
)
from distributed_cls.contracts.run_folder import full_disk_endured
from distributed_cls.contracts.summary import SlowRank

_GALLERY = 24  # mistakes that are kept, over all ranks

# The stage of summary.json that a phase of rank 0 belongs to.
STAGES = {
    Phase.STARTING: "rendezvous",
    Phase.RENDEZVOUS: "rendezvous",
    Phase.TENSORFLOW: "tensorflow",
    Phase.CLUSTER: "tensorflow",
    Phase.DATASET: "tracing",
    Phase.MODEL: "tracing",
    Phase.INPUT: "tracing",
    Phase.TRACE: "tracing",
    Phase.TRAIN: "train",
    Phase.EVALUATE: "evaluate",
    Phase.EXPORT: "export",
    Phase.FINISH: "finish",
}


class Recorder:
    """Keeps the events of a stage in the run folder, and the times at which its phases began."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[int, TextIO] = {}
        self._metrics: TextIO | None = None
        self._mistakes: dict[str, list[Mistake]] = {}
        self._phases: list[tuple[float, Phase]] = []  # of rank 0, in the last attempt
        self._slow_ranks: dict[tuple[int, str], SlowRank] = {}
        self._failed_seconds = 0.0  # of the attempts before it

    def __call__(self, event: Event) -> None:
        match event:
            case AttemptStarted():
                if self._phases:
                    self._failed_seconds += event.time - self._phases[0][0]
                self._phases, self._mistakes = [(event.time, Phase.STARTING)], {}
            case PhaseStarted(rank=0):
                self._phases.append((event.time, event.phase))
            case LogLine():
                self._log(event.rank, event.line)
            case MistakesFound():
                self._mistakes.setdefault(event.split, []).extend(event.items)
            case RankSlow():
                self._slow_ranks[event.rank, event.host] = SlowRank(event.rank, event.host, round(event.factor, 2))
            case TrainProgressed() | EpochEnded():
                self._metric(event)

    def _log(self, rank: int, line: str) -> None:
        if rank not in self._logs:
            path = self._folder / "logs" / f"rank-{rank}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._logs[rank] = path.open("a", encoding="utf-8")
        _append(self._logs[rank], line)

    def _metric(self, event: Event) -> None:
        if self._metrics is None:
            self._metrics = (self._folder / "metrics.jsonl").open("a", encoding="utf-8")
        _append(self._metrics, events.dumps(event))

    def close(self) -> None:
        for stream in [*self._logs.values(), *([self._metrics] if self._metrics else [])]:
            stream.close()

    def mistakes(self, split: str) -> list[Mistake]:
        """The most confident mistakes of all ranks, highest first; equal ones in the order of their keys."""
        found = sorted(self._mistakes.get(split, []), key=lambda mistake: (-mistake.confidence, mistake.key))
        return found[:_GALLERY]

    def slow_ranks(self) -> list[SlowRank]:
        """The ranks that were steadily slower than the others, by their numbers."""
        return [self._slow_ranks[place] for place in sorted(self._slow_ranks)]

    def stage_seconds(self) -> dict[str, float]:
        """How long each stage took on rank 0 in the last attempt, in their order, after the time of failed attempts."""
        ends = [began for began, _ in self._phases[1:]] + [time.time()]
        seconds = {"failed_attempts": round(self._failed_seconds, 3)} if self._failed_seconds else {}
        for (began, phase), end in zip(self._phases, ends, strict=True):
            stage = STAGES[phase]
            seconds[stage] = round(seconds.get(stage, 0.0) + end - began, 3)
        return seconds


def _append(stream: TextIO, line: str) -> None:
    """Write a line at once. While the disk is full the stream keeps it, and tries again with the next one."""
    with full_disk_endured():
        stream.write(line + "\n")
        stream.flush()
