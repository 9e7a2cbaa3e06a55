"""What an attempt says while its ranks are quiet, by a clock that the test moves."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_cls.barrier import monitor
from distributed_cls.barrier.attempt import Attempt, Job
from distributed_cls.config import ClusterConfig, Config
from distributed_cls.contracts.events import Event, Heartbeat, Phase, PhaseStarted
from distributed_cls.contracts.rank_task import RankTask

Told = Callable[[dict[float, Event], float], list[str]]


class _Stage:
    """Stands for a stage whose agents report what the test says, and wait in between."""

    def __init__(self, clock: SimpleNamespace, reports: dict[float, Event]) -> None:
        self.workers, self.alive = 2, True
        self._clock, self._reports = clock, reports

    def report(self, timeout: float) -> tuple[int, Event] | None:
        due = [when for when in self._reports if when <= self._clock.now]
        if due:
            return 1, self._reports.pop(min(due))
        self._clock.now += timeout
        return None


def _begun(step: int) -> dict[float, Event]:
    """By the second: two ranks begin to train, and have done ``step`` steps."""
    begin = {0.1 * rank: PhaseStarted(rank=rank, phase=Phase.TRAIN, host=f"node-{rank}") for rank in range(2)}
    return begin | {0.5 + 0.1 * rank: Heartbeat(rank=rank, step=step) for rank in range(2)}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Told:
    """``told(reports, until)``: the lines of the first ``until`` seconds."""

    def told(reports: dict[float, Event], until: float) -> list[str]:
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: clock.now))
        caplog.clear()
        caplog.set_level(logging.INFO)
        task = RankTask(Config(cluster=ClusterConfig(workers=2, stall_timeout=600)), "/data", "1", "/run", ())
        stage: Any = _Stage(clock, dict(reports))
        Attempt(stage, Job("a", task), 1, lambda event: None)._until(lambda: clock.now >= until)
        return caplog.messages

    return told


def test_ten_seconds_without_progress_name_each_rank_and_its_phase(told: Told) -> None:
    """Heartbeats without a step are no progress, and the line comes again after twice the time."""
    reports = _begun(step=7) | {8.0: PhaseStarted(rank=1, phase=Phase.EVALUATE)}
    reports |= {9.0 + second: Heartbeat(rank=second % 2, step=7) for second in range(70)}
    assert told(reports, until=17.75) == []
    where = "rank 0 in train, step 7; rank 1 in evaluate, step 7"
    assert told(reports, until=80) == [f"No progress for {seconds} s: {where}" for seconds in (10, 20, 40)]


def test_each_quiet_time_has_its_own_lines(told: Told) -> None:
    reports = _begun(step=1) | {26 + 0.1 * rank: Heartbeat(rank=rank, step=2) for rank in range(2)}
    expected = [(10, 1), (20, 1), (10, 2)]
    assert told(reports, until=37) == [
        f"No progress for {seconds} s: ranks 0, 1 in train, step {step}" for seconds, step in expected
    ]
