"""What follows from a failed attempt: a pure function of how it ended and of what happened before."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from distributed_cls.contracts.events import FailureKind

MAX_LOST_PORTS = 3  # rendezvous that are repeated without counting as an attempt


class Decision(str, enum.Enum):
    """What the supervisor does next."""

    RETRY = "retry"  # start the ranks again, from their last state
    REFUSE = "refuse"  # the user can fix it: exit code 2
    FAIL = "fail"  # exit code 1


@dataclass(frozen=True)
class AttemptStatus:
    """How an attempt ended without a result."""

    kind: FailureKind
    message: str  # one line for the user, with the remedy where there is one
    step: int = 0  # finished training steps, of the rank that failed
    seconds: float = 0.0  # that the attempt took
    workers: int | None = None  # that it had; None: it had none yet
    details: tuple[str, ...] = ()  # further lines: the end of the rank's log, where the rest is


@dataclass(frozen=True)
class Verdict:
    """A decision, and why."""

    decision: Decision
    reason: str


def counted(history: Sequence[AttemptStatus]) -> int:
    """How many of these attempts count against the limit.

    Not the first few lost ports, not those that were ended to go on with more workers, and not those before the one
    that got furthest: a run that gets on, however often it is disturbed, comes to its end.
    """
    furthest = max((status.step for status in history), default=0)
    since = [number for number, status in enumerate(history) if furthest and status.step == furthest][:1]
    relevant = history[since[0] :] if since else history
    ports = sum(status.kind is FailureKind.PORT for status in relevant)
    resized = sum(status.kind is FailureKind.RESIZED for status in relevant)
    return len(relevant) - min(ports, MAX_LOST_PORTS) - resized


def decide(status: AttemptStatus, history: Sequence[AttemptStatus], max_attempts: int) -> Verdict:
    """What to do after ``status``. ``history``: the failed attempts before it, oldest first."""
    if status.kind is FailureKind.USER:
        return Verdict(Decision.REFUSE, "the user can fix it")
    if status.kind is FailureKind.RESIZED:
        return Verdict(Decision.RETRY, "going on with all workers from the checkpoint of that epoch")
    if status.kind is FailureKind.DIVERGED:
        return Verdict(Decision.FAIL, "another attempt would compute the same loss")
    if _repeats(status, history):
        return Verdict(Decision.FAIL, "the same error at the same step: another attempt would not get further")
    used = counted([*history, status])
    if used >= max_attempts:
        return Verdict(Decision.FAIL, f"attempt {used} of {max_attempts}, the last")
    if status.kind is FailureKind.PORT and used == counted(history):
        return Verdict(Decision.RETRY, "a port was taken before TensorFlow could bind it; repeating the rendezvous")
    return Verdict(Decision.RETRY, f"starting the ranks again from their last state ({used + 1} of {max_attempts})")


def _repeats(status: AttemptStatus, history: Sequence[AttemptStatus]) -> bool:
    """Whether a rank's exception is the one that ended the attempt before, at the same step."""
    if status.kind is not FailureKind.ERROR or not history:
        return False
    before = history[-1]
    return (before.kind, before.step, before.message) == (status.kind, status.step, status.message)
