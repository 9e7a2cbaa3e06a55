"""Which rank is steadily slower than the others.

All ranks take the same steps, and wait for the slowest of them in each: the times of their steps are equal. What tells
them apart is the time that each computes for an image before it waits (``training/train_graph.py``).
"""

import statistics
import time

from distributed_cls.contracts.events import Heartbeat

_WINDOW_SECONDS = 10.0  # of training, in which the ranks are compared
_WINDOW_STEPS = 3  # at least, of each rank
_WINDOWS = 3  # one after the other in which the same rank is behind
_FACTOR = 1.5  # the least that is worth a word


class SlowRanks:
    """Compares the heartbeats of the ranks of one attempt; names a rank once."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._latest: dict[int, Heartbeat] = {}
        self._base: dict[int, Heartbeat] = {}  # at the beginning of the window
        self._began = 0.0
        self._behind: list[tuple[int, float]] = []  # the slowest rank of each of the last windows, and its factor
        self._named: set[int] = set()

    def update(self, heartbeat: Heartbeat) -> tuple[int, float] | None:
        """Take in a heartbeat; a rank and the factor by which it is slower, once that is certain."""
        if self._workers == 1 or not heartbeat.seconds:  # nothing is measured before the first step, or under XLA
            return None
        self._latest[heartbeat.rank] = heartbeat
        if len(self._latest) < self._workers or not self._window_is_over():
            return None
        slowest = self._slowest()
        self._base, self._began = dict(self._latest), time.monotonic()
        self._behind = [*self._behind, slowest][-_WINDOWS:] if slowest else []
        ranks = {rank for rank, _ in self._behind}
        if len(self._behind) < _WINDOWS or len(ranks) > 1:
            return None
        self._named |= ranks
        factor = statistics.median(factor for _, factor in self._behind)
        self._behind = []
        return ranks.pop(), factor

    def _window_is_over(self) -> bool:
        if not self._base:
            self._base, self._began = dict(self._latest), time.monotonic()
        steps = min(self._latest[rank].step - self._base[rank].step for rank in self._latest)
        return steps >= _WINDOW_STEPS and time.monotonic() - self._began >= _WINDOW_SECONDS

    def _slowest(self) -> tuple[int, float] | None:
        """The slowest rank that was not named yet and its factor in this window, where it is worth a word."""
        pace = {rank: self._pace(rank) for rank in self._latest}
        rank = max(pace.keys() - self._named, key=lambda rank: pace[rank], default=None)
        if rank is None:
            return None
        others = statistics.median(seconds for other, seconds in pace.items() if other != rank)
        return (rank, pace[rank] / others) if pace[rank] >= _FACTOR * others > 0 else None

    def _pace(self, rank: int) -> float:
        """Seconds for an image."""
        now, before = self._latest[rank], self._base[rank]
        return (now.seconds - before.seconds) / (now.images - before.images)
