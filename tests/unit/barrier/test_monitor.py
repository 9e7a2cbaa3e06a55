"""What the driver knows of its ranks, with a clock that the test moves."""

import time

import pytest

from distributed_cls.barrier import monitor
from distributed_cls.barrier.monitor import RankMonitor
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.events import (
    Disconnected,
    Failed,
    FailureKind,
    Heartbeat,
    LogLine,
    Phase,
    PhaseProgressed,
    PhaseStarted,
    ProcessStarted,
)


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(monitor, "time", clock)
    return clock


CLUSTER = ClusterConfig(rendezvous_timeout=60, start_timeout=300, first_step_timeout=500, stall_timeout=100)


def _monitor(world_size: int) -> RankMonitor:
    return RankMonitor(CLUSTER, world_size)


def _training(world_size: int = 2) -> RankMonitor:
    """Ranks that have taken their first step."""
    ranks = _monitor(world_size)
    for rank in range(world_size):
        ranks.update(PhaseStarted(rank=rank, phase=Phase.RENDEZVOUS, host=f"node-{rank}"))
        ranks.update(ProcessStarted(rank=rank, host=f"node-{rank}", pid=100 + rank))
        ranks.update(PhaseStarted(rank=rank, phase=Phase.TRAIN))
        ranks.update(Heartbeat(rank=rank, step=1))
    return ranks


def test_heartbeats_without_steps_are_no_progress(clock: Clock) -> None:
    ranks = _training()
    for _ in range(33):
        clock.now += 3
        ranks.update(Heartbeat(rank=0, step=1))
        ranks.update(Heartbeat(rank=1, step=1))
        assert ranks.stalled() is None
    clock.now += 1.5
    assert ranks.idle_seconds() == pytest.approx(100.5)
    stalled = ranks.stalled()
    assert stalled is not None
    assert "No rank made progress for 100 s (cluster.stall_timeout=100); all ranks send heartbeats" in stalled
    assert "rank 0 on node-0, pid 100: train, step 1" in stalled and "rank 1 on node-1" in stalled


def test_one_step_of_any_rank_is_progress(clock: Clock) -> None:
    ranks = _training()
    clock.now += 99
    ranks.update(Heartbeat(rank=1, step=2))
    clock.now += 99
    assert ranks.stalled() is None
    assert ranks.positions() == "rank 0 in train, step 1; rank 1 in train, step 2"


def test_the_silent_rank_is_named_and_no_other(clock: Clock) -> None:
    ranks = _training()
    for _ in range(50):
        clock.now += 2
        ranks.update(Heartbeat(rank=0, step=1))
    stalled = ranks.stalled()
    assert stalled is not None
    assert "no heartbeat from rank 1 on node-1, pid 101: train, step 1, last heard 100 s ago" in stalled
    assert "rank 0" not in stalled
    assert ranks.silent() == [1]


@pytest.mark.parametrize(
    ("phase", "setting", "seconds"),
    [
        (Phase.RENDEZVOUS, "rendezvous_timeout", 60),
        (Phase.TENSORFLOW, "start_timeout", 300),
        (Phase.CLUSTER, "start_timeout", 300),
        (Phase.DATASET, "stall_timeout", 100),
        (Phase.MODEL, "first_step_timeout", 500),
        (Phase.INPUT, "first_step_timeout", 500),
        (Phase.TRACE, "first_step_timeout", 500),
        (Phase.TRAIN, "stall_timeout", 100),
        (Phase.EVALUATE, "stall_timeout", 100),
        (Phase.FINISH, "stall_timeout", 100),
    ],
)
def test_each_phase_has_a_limit_of_its_own(clock: Clock, phase: Phase, setting: str, seconds: float) -> None:
    ranks = _monitor(1)
    ranks.update(PhaseStarted(rank=0, phase=phase, host="node-0"))
    clock.now += seconds - 1
    assert ranks.stalled() is None
    clock.now += 2
    assert f"cluster.{setting}={seconds}" in str(ranks.stalled())


def test_the_limit_is_that_of_the_rank_that_is_behind(clock: Clock) -> None:
    """A rank in its first step waits for one that still imports TensorFlow."""
    ranks = _monitor(2)
    ranks.update(PhaseStarted(rank=0, phase=Phase.TRACE, host="node-0"))
    ranks.update(PhaseStarted(rank=1, phase=Phase.TENSORFLOW, host="node-1"))
    clock.now += 301
    assert "cluster.start_timeout=300" in str(ranks.stalled())


def test_checking_terabytes_of_shards_is_progress(clock: Clock) -> None:
    ranks = _monitor(1)
    ranks.update(PhaseStarted(rank=0, phase=Phase.DATASET, host="node-0"))
    for done in range(1, 100):  # two and a half hours
        clock.now += 90
        ranks.update(PhaseProgressed(rank=0, done=done * 2**30, total=100 * 2**30))
        assert ranks.stalled() is None
    clock.now += 101
    assert ranks.stalled() is not None


def _failed(rank: int, failure: FailureKind, message: str = "") -> Failed:
    return Failed(rank=rank, failure=failure, message=message)


def test_the_first_failure_is_the_cause_the_others_follow_from_it(clock: Clock) -> None:
    ranks = _training(3)
    assert ranks.first_failure() is None
    ranks.update(_failed(1, FailureKind.ERROR, "cause"))
    clock.now += 1
    ranks.update(_failed(2, FailureKind.ERROR, "Connection reset by peer"))
    assert ranks.first_failure() == 1
    ranks.update(Disconnected(rank=1))
    clock.now += 1
    ranks.update(Disconnected(rank=0))
    assert ranks.first_disconnected() == 1


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.ERROR])
def test_an_end_that_no_other_rank_can_cause_is_the_root_cause(clock: Clock, kind: FailureKind) -> None:
    """TensorFlow notices a dead peer before the agent of the dead process does."""
    ranks = _training(3)
    ranks.update(_failed(0, FailureKind.ERROR, "Socket closed"))
    assert not ranks.root_cause_known()
    clock.now += 1
    ranks.update(_failed(1, kind))
    ranks.update(_failed(2, FailureKind.ERROR, "Socket closed"))
    assert ranks.first_failure() == 1 and ranks.root_cause_known()


def test_the_last_lines_of_a_log_are_kept(clock: Clock) -> None:
    ranks = _training()
    for number in range(100):
        ranks.update(LogLine(rank=0, line=str(number)))
    assert ranks.ranks[0].log == [str(number) for number in range(60, 100)]
    assert ranks.ranks[1].log == []


def test_after_an_error_a_rank_is_heard_or_missed(clock: Clock) -> None:
    ranks = _training(3)
    clock.now += 2
    ranks.update(_failed(0, FailureKind.ERROR, "Collective ops is aborted"))
    since = clock.now
    assert ranks.awaiting_reports(since)
    clock.now += 1
    ranks.update(Heartbeat(rank=2, step=1))
    ranks.update(Disconnected(rank=1))  # no sign of life
    assert ranks.awaiting_reports(since)
    clock.now += 4
    assert not ranks.awaiting_reports(since)
    assert ranks.silent() == [1]
