"""Which of the waiting trials of a sweep begins next beside those that run: pure, without clock or threads.

A trial is a gang: it begins when there is a slot for each of its workers, and never with a part of them, so that two
that wait for each other's slots cannot be. The order is that in which the sweeper asked, but a trial that does not fit
may be overtaken by later ones that do: otherwise slots would be idle behind every gang of several workers. It is
overtaken ``OVERTAKINGS`` times at most; then nothing else begins until those that run have made room for it, so that
it waits for no longer than the longest of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

OVERTAKINGS = 8
EVERYTHING = 2**31  # workers of a job whose tasks take all slots that are free

# How many workers with so many GPUs each there can be at once; None while there is no session to tell.
Slots = Callable[[int], int | None]


@dataclass(frozen=True)
class Need:
    """What a trial holds while it runs."""

    workers: int
    gpus: int = 0  # of each worker
    alone: bool = False  # it needs another Spark session than the one that is there


class Admission:
    """Decides for a list of trials, of which at most ``limit`` run at once; None: as many as there are slots for."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._overtaken: dict[int, int] = {}

    def full(self, running: Sequence[Need], slots: Slots) -> bool:
        """Whether nothing can begin now, whatever it needs."""
        if not running:
            return False
        there = slots(0)
        at_limit = self._limit is not None and len(running) >= self._limit
        return at_limit or there is None or sum(need.workers for need in running) >= there

    def choose(self, waiting: Mapping[int, Need], running: Sequence[Need], slots: Slots) -> int | None:
        """The trial of ``waiting``, in its order, that begins now; None when none does."""
        if self.full(running, slots):
            return None
        passed: list[int] = []
        for number, need in waiting.items():
            if _fits(need, running, slots):
                for other in passed:
                    self._overtaken[other] = self._overtaken.get(other, 0) + 1
                self._overtaken.pop(number, None)
                return number
            if self._overtaken.get(number, 0) >= OVERTAKINGS:
                return None
            passed.append(number)
        return None


def _fits(need: Need, running: Sequence[Need], slots: Slots) -> bool:
    if not running:
        return True  # all there is, is for it; what needs more is refused by its own checks, in one line
    there = slots(0)
    if need.alone or there is None:
        return False
    # One that needs more than there is gets all, when it is there: executors may yet come, or it is refused.
    held = sum(min(each.workers, there) for each in running)
    if held + min(need.workers, there) > there:
        return False
    return not need.gpus or sum(_share_of_gpus(each, slots) for each in [*running, need]) <= 1


def _share_of_gpus(need: Need, slots: Slots) -> Fraction:
    """The part of all GPUs that a trial holds: how an executor's GPUs can be divided depends on how many each wants."""
    if not need.gpus:
        return Fraction(0)
    there = slots(need.gpus) or 0
    return min(Fraction(1), Fraction(need.workers, there)) if there else Fraction(1)


class BusySlots:
    """How much of the time the slots were held by trials."""

    def __init__(self) -> None:
        self._latest: float | None = None
        self._held = self._there = 0.0  # slots × seconds
        self.most = 0  # trials that ran at once

    def note(self, now: float, running: Sequence[Need], there: int | None) -> None:
        """Until ``now`` these trials ran. Time without a session is not counted: it has no slots."""
        if self._latest is not None and there:
            seconds = now - self._latest
            self._held += seconds * min(there, sum(need.workers for need in running))
            self._there += seconds * there
        self._latest = now
        self.most = max(self.most, len(running))

    @property
    def share(self) -> float | None:
        """In [0, 1]; None when no time was counted."""
        return self._held / self._there if self._there else None
