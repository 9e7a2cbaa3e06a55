"""What the driver knows of its ranks, with a clock that the test moves."""

import time
from typing import Any

import pytest

from distributed_cls.barrier import monitor
from distributed_cls.barrier.monitor import Watch


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


def _see(seen: Watch, rank: int, event: str, **values: Any) -> None:
    seen.see({"event": event, "rank": rank, **values})


def _training(world: int = 2) -> Watch:
    """Ranks that have taken their first step."""
    seen = Watch(world, start_timeout=300, stall_timeout=100, log_tail=3)
    for rank in range(world):
        _see(seen, rank, "phase", name="rendezvous", host=f"node-{rank}")
        _see(seen, rank, "started", host=f"node-{rank}", pid=100 + rank)
        _see(seen, rank, "phase", name="train")
        _see(seen, rank, "heartbeat", step=1)
    return seen


def test_heartbeats_without_steps_are_no_progress(clock: Clock) -> None:
    seen = _training()
    for _ in range(33):
        clock.now += 3
        _see(seen, 0, "heartbeat", step=1)
        _see(seen, 1, "heartbeat", step=1)
        assert seen.stall() is None
    clock.now += 1.5
    stall = seen.stall()
    assert stall is not None
    assert "No rank made progress for 100 s (cluster.stall_timeout=100); none is silent, all wait" in stall
    assert "rank 0 on node-0, pid 100: train, step 1" in stall and "rank 1 on node-1" in stall


def test_one_step_of_any_rank_is_progress(clock: Clock) -> None:
    seen = _training()
    clock.now += 99
    _see(seen, 1, "heartbeat", step=2)
    clock.now += 99
    assert seen.stall() is None


def test_the_silent_rank_is_named_and_no_other(clock: Clock) -> None:
    seen = _training()
    for _ in range(50):
        clock.now += 2
        _see(seen, 0, "heartbeat", step=1)
    stall = seen.stall()
    assert stall is not None and "silent: rank 1 on node-1, pid 101: train, step 1, last heard 100 s ago" in stall
    assert "rank 0" not in stall
    assert seen.silent() == [1]


def test_until_every_rank_has_started_the_start_limit_holds(clock: Clock) -> None:
    seen = Watch(2, start_timeout=300, stall_timeout=100, log_tail=3)
    _see(seen, 0, "started", host="node-0", pid=1)
    clock.now += 299
    _see(seen, 0, "heartbeat", step=0)
    assert seen.stall() is None
    clock.now += 2
    stall = seen.stall()
    assert stall is not None and "cluster.start_timeout=300" in stall
    assert "silent: rank 1 on ?: starting" in stall


def test_an_evaluation_without_training_has_the_stall_limit(clock: Clock) -> None:
    """It takes no steps; it is work all the same, not the start of it."""
    seen = Watch(1, start_timeout=50, stall_timeout=100, log_tail=3)
    _see(seen, 0, "started", host="node-0", pid=1)
    _see(seen, 0, "phase", name="evaluate")
    clock.now += 99
    assert seen.stall() is None
    clock.now += 2
    assert "cluster.stall_timeout=100" in str(seen.stall())


def test_the_first_failure_is_the_cause_the_others_its_echo(clock: Clock) -> None:
    seen = _training(3)
    assert seen.first_failure() is None
    # What the ranks' own clocks say does not matter: they are on different hosts.
    _see(seen, 1, "failure", kind="error", message="cause", time=99.0)
    clock.now += 1
    _see(seen, 2, "failure", kind="error", message="Connection reset by peer", time=10.0)
    assert seen.first_failure() == 1
    _see(seen, 1, "disconnected", time=99.0)
    clock.now += 1
    _see(seen, 0, "disconnected", time=10.5)
    assert seen.first_gone() == 1


def test_a_process_that_was_killed_is_the_cause_though_its_peers_speak_first(clock: Clock) -> None:
    """TensorFlow notices a dead peer before the supervisor of the dead process does."""
    seen = _training(3)
    _see(seen, 0, "failure", kind="error", message="Socket closed", time=10.0)
    _see(seen, 1, "failure", kind="died", message="its process ended with signal SIGKILL", time=10.1)
    _see(seen, 2, "failure", kind="error", message="Socket closed", time=10.05)
    assert seen.first_failure() == 1


def test_the_last_lines_of_a_log_are_kept(clock: Clock) -> None:
    seen = _training()
    for number in range(10):
        _see(seen, 0, "log", line=str(number))
    assert seen.ranks[0].log == ["7", "8", "9"]
    assert seen.ranks[1].log == []


def test_after_an_error_a_rank_is_heard_or_missed(clock: Clock) -> None:
    seen = _training(3)
    clock.now += 2
    _see(seen, 0, "failure", kind="error", message="Collective ops is aborted", time=10.0)
    assert not seen.cause_known()
    since = clock.now
    assert seen.undecided(since)
    clock.now += 1
    _see(seen, 2, "heartbeat", step=1)
    _see(seen, 1, "disconnected", time=11.0)  # no sign of life
    assert seen.undecided(since)
    clock.now += 4
    assert not seen.undecided(since)
    assert seen.silent() == [1]
