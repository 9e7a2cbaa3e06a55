"""What the events of a stage leave in the run folder."""

from pathlib import Path

import pytest

from distributed_cls.contracts import events
from distributed_cls.contracts.events import (
    AttemptStarted,
    EpochEnded,
    Heartbeat,
    LogLine,
    Metrics,
    Mistake,
    MistakesFound,
    Phase,
    PhaseStarted,
)
from distributed_cls.run import recorder as recorder_module
from distributed_cls.run.recorder import Recorder


class Clock:
    """Stands in for the module ``time``."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorder_module, "time", clock)
    return clock


def test_logs_and_metrics_are_there_line_by_line_while_the_stage_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for rank in (0, 1, 0):
        recorder(LogLine(rank=rank, line=f"ä {rank}"))
    recorder(Heartbeat(rank=0, step=3))
    measured = EpochEnded(rank=0, time=5.0, split="val", epoch=1, step=9, values=Metrics(0.5, 0.75))
    recorder(measured)
    assert (tmp_path / "logs" / "rank-0.log").read_text(encoding="utf-8") == "ä 0\nä 0\n"
    assert (tmp_path / "logs" / "rank-1.log").read_text(encoding="utf-8") == "ä 1\n"
    [line] = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert events.loads(line) == measured
    recorder.close()


def test_the_seconds_of_stages_are_those_of_rank_0_in_the_last_attempt(tmp_path: Path, clock: Clock) -> None:
    recorder = Recorder(tmp_path)
    recorder(AttemptStarted(time=1000, number=1, of=2, workers=2))
    recorder(AttemptStarted(time=1007, number=2, of=2, workers=2))  # seven seconds were lost
    phases = {1008: Phase.TENSORFLOW, 1013: Phase.CLUSTER, 1014: Phase.DATASET, 1015: Phase.TRACE, 1018: Phase.TRAIN}
    for time, phase in phases.items():
        recorder(PhaseStarted(rank=0, time=time, phase=phase))
        recorder(PhaseStarted(rank=1, time=time + 50, phase=phase))
    recorder(PhaseStarted(rank=0, time=1030, phase=Phase.EVALUATE))
    clock.now = 1032
    seconds = recorder.stage_seconds()
    # tensorflow: its import and its cluster; tracing: from the data set to the first step.
    assert seconds == {
        "failed_attempts": 7,
        "rendezvous": 1,
        "tensorflow": 6,
        "tracing": 4,
        "train": 12,
        "evaluate": 2,
    }
    assert set(recorder_module.STAGES) == set(Phase)


def test_the_most_confident_mistakes_of_all_ranks_in_the_last_attempt(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder(AttemptStarted(number=1, of=2, workers=2))
    recorder(MistakesFound(rank=0, split="val", items=(Mistake("", "old", 0, 1, 1.0),)))
    recorder(AttemptStarted(number=2, of=2, workers=2))
    for rank in (0, 1):
        items = tuple(Mistake("", f"{number:02}-{rank}", 0, 1, number / 20) for number in range(20))
        recorder(MistakesFound(rank=rank, split="val", items=items))
    found = [mistake.key for mistake in recorder.mistakes("val")]
    assert found == [f"{number:02}-{rank}" for number in range(19, 7, -1) for rank in (0, 1)]
    assert recorder.mistakes("test") == []
