"""What both phases of a training come to together: epochs counted on, attempts and seconds of both."""

from pathlib import Path

from distributed_cls import phases
from distributed_cls.barrier.supervisor import Outcome
from distributed_cls.config import Config
from distributed_cls.contracts.events import EpochEnded, Heartbeat, Metrics, TrainProgressed
from distributed_cls.contracts.rank_task import RankResult, RankTask, Step, TrainResult
from distributed_cls.contracts.summary import FailedAttempt
from distributed_cls.phases import Performed
from distributed_cls.run.recorder import Recorder

FIRST = TrainResult(5, 45, 4, 0.5, 0.75, 0.0, 100.0, 0.8, 0.6)
VALUES = Metrics(0.5, 0.75)


def test_the_epochs_of_the_second_phase_are_counted_on() -> None:
    task = RankTask(Config(), "data", "1", "run", (Step.TRAIN,), first_phase=FIRST)
    ended = phases._counted_on(EpochEnded(rank=0, split="val", epoch=2, step=18, values=VALUES), task)
    assert ended == EpochEnded(rank=0, split="val", epoch=7, step=63, values=VALUES)
    progressed = TrainProgressed(rank=0, epoch=1, epochs=3, step=4, steps=27, values=VALUES)
    expected = TrainProgressed(rank=0, epoch=6, epochs=8, step=49, steps=72, values=VALUES)
    assert phases._counted_on(progressed, task) == expected
    assert phases._counted_on(Heartbeat(rank=0, step=4), task) == Heartbeat(rank=0, step=4)
    alone = RankTask(Config(), "data", "1", "run", (Step.TRAIN,))
    assert phases._counted_on(progressed, alone) == progressed


def test_the_best_epoch_is_the_first_phases_when_the_second_made_nothing_better() -> None:
    worse = TrainResult(3, 27, 0, 0.4, 0.8, 1e-5, 90.0, 0.8, 0.6)
    better = TrainResult(3, 27, 2, 0.4, 0.8, 1e-5, 90.0, 0.9, 0.5)
    assert phases._joined(FIRST, worse) == TrainResult(8, 72, 4, 0.4, 0.8, 1e-5, 90.0, 0.8, 0.6, 5)
    assert phases._joined(FIRST, better).best_epoch == 7


def test_failed_attempts_and_seconds_of_both_phases_are_told(tmp_path: Path) -> None:
    def performed(attempts: int, **seconds: float) -> Performed:
        failed = [FailedAttempt(number, "error", "gone", 1.0) for number in range(1, attempts)]
        return Performed(Outcome(RankResult(FIRST), attempts, 2, failed), [Recorder(tmp_path)], seconds)

    both = phases._both(performed(2, train=3.0, tracing=1.0), performed(3, train=2.5, export=1.0))
    assert both.outcome.attempts == 4  # one, and three that failed
    assert [failed.number for failed in both.outcome.failed_attempts] == [1, 2, 3]
    assert both.seconds == {"train": 5.5, "tracing": 1.0, "export": 1.0}
    assert len(both.recorders) == 2
