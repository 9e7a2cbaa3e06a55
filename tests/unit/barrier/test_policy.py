"""What follows from a failed attempt, as a table."""

import pytest

from distributed_cls.barrier.policy import AttemptStatus, Decision, counted, decide
from distributed_cls.contracts.events import FailureKind

RETRY, REFUSE, FAIL = Decision.RETRY, Decision.REFUSE, Decision.FAIL


def _status(kind: str, message: str = "", step: int = 0) -> AttemptStatus:
    return AttemptStatus(FailureKind(kind), message, step)


@pytest.mark.parametrize(
    ("kind", "before", "max_attempts", "decision"),
    [
        ("user", [], 5, REFUSE),
        ("user", ["died", "port"], 5, REFUSE),
        ("diverged", [], 5, FAIL),
        ("died", [], 2, RETRY),
        ("died", ["died"], 2, FAIL),
        ("died", ["stage", "stalled"], 4, RETRY),
        ("died", ["stage", "stalled", "error"], 4, FAIL),
        ("stalled", [], 1, FAIL),
        ("stage", [], 2, RETRY),
        ("interrupted", [], 2, RETRY),
        ("interrupted", ["died"], 2, FAIL),
        ("error", [], 2, RETRY),
        # The first three lost ports are no attempts; further ones are.
        ("port", [], 1, RETRY),
        ("port", ["port", "port"], 1, RETRY),
        ("port", ["port", "port", "port"], 1, FAIL),
        ("port", ["port", "port", "port"], 2, RETRY),
        ("died", ["port", "port"], 2, RETRY),
        ("died", ["port", "died", "port"], 2, FAIL),
    ],
)
def test_decisions(kind: str, before: list[str], max_attempts: int, decision: Decision) -> None:
    history = [_status(name, f"attempt {number}") for number, name in enumerate(before)]
    assert decide(_status(kind, "now"), history, max_attempts).decision is decision


def test_every_kind_of_failure_is_decided() -> None:
    for kind in FailureKind:
        assert decide(AttemptStatus(kind, ""), [], 2).reason


def test_an_exception_that_comes_again_at_the_same_step_is_not_tried_a_third_time() -> None:
    first = _status("error", "ValueError: a bug", 12)
    assert decide(first, [], 9).decision is RETRY
    again = decide(first, [first], 9)
    assert again.decision is FAIL and "the same error at the same step" in again.reason
    assert decide(_status("error", "ValueError: a bug", 13), [first], 9).decision is RETRY
    assert decide(_status("error", "another", 12), [first], 9).decision is RETRY
    killed = _status("died", "signal SIGKILL", 12)
    assert decide(killed, [killed], 9).decision is RETRY  # what a machine does may be over


def test_attempts_before_the_one_that_got_furthest_do_not_count() -> None:
    got_on = [_status("died", step=step) for step in (10, 20, 30)]
    assert decide(_status("died", step=40), got_on, 2).decision is RETRY  # the first that came so far
    assert decide(_status("died", step=30), got_on, 2).decision is FAIL  # no further than the one before it
    assert decide(_status("stage", step=5), got_on, 3).decision is RETRY
    assert decide(_status("died", step=5), [*got_on, _status("stage", step=5)], 3).decision is FAIL
    assert counted([_status("died", step=40), _status("died", step=7)]) == 2
    assert counted([_status("stage")] * 3) == 3  # none has made a step


def test_attempts_that_end_for_more_workers_do_not_count() -> None:
    assert decide(_status("resized", step=20), [_status("stage", step=10)], 1).decision is RETRY
    grown = [_status("stage", step=10), _status("resized", step=20)]
    assert counted(grown) == 0
    assert decide(_status("stage", step=20), [*grown, _status("stage", step=15)], 2).decision is FAIL


def test_what_is_said_of_the_next_attempt() -> None:
    assert decide(_status("died"), [], 3).reason == "starting the ranks again from their last state (2 of 3)"
    assert decide(_status("died"), [_status("stage"), _status("stage")], 3).reason == "attempt 3 of 3, the last"
    assert "port" in decide(_status("port"), [], 3).reason
    assert counted([_status("port")] * 5) == 2
