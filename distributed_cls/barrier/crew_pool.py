"""Keeps crews from one job to the next: one for jobs that follow each other, a pool for trials side by side."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from distributed_cls.barrier.crew import Crew, Neighbours
from distributed_cls.config import ClusterConfig

_SETTLE_SECONDS = 60.0  # for the agents of stages that have just been started
_POLL_SECONDS = 0.05


class CrewHolder:
    """Keeps a crew from one job to the next, for as long as they are of the same cluster."""

    def __init__(self, neighbours: Neighbours | None = None) -> None:
        self._neighbours = neighbours or Neighbours()
        self._crew: Crew | None = None
        self._of: tuple[ClusterConfig, tuple[str, ...]] | None = None

    def crew(self, cluster: ClusterConfig, plugins: tuple[str, ...]) -> Crew:
        """The crew that is there, or a new one in the place of another."""
        if self._crew is None or not self.fits(cluster, plugins):
            self.close()
            self._crew, self._of = Crew(cluster, plugins, self._neighbours), (cluster, plugins)
        return self._crew

    def fits(self, cluster: ClusterConfig, plugins: tuple[str, ...]) -> bool:
        """Whether the crew that is kept would do such a job."""
        return self._of == (cluster, plugins)

    @property
    def slots(self) -> int:
        """The slots of Spark that the crew holds now."""
        crew = self._crew
        return crew.slots if crew is not None else 0

    @property
    def has_gpus(self) -> bool:
        """Whether the agents of its crew have GPUs."""
        return self._of is not None and self._of[0].gpus_per_worker > 0

    @property
    def starting(self) -> bool:
        """Whether the crew waits for Spark to begin its agents."""
        crew = self._crew
        return crew is not None and crew.starting

    def close(self) -> None:
        """End all processes of the crew."""
        if self._crew is not None:
            self._crew.close()
        self._crew = self._of = None


class CrewPool:
    """The crews of a sweep: each of its trials takes one, and gives it back warm.

    A crew is told here what it cannot know by itself: the slots that the others hold, since Spark counts all there are
    for each of them, and when other tasks are to run. These take every slot that is free, so no crew starts meanwhile,
    and one trial at a time has the turn for them: of two that need the same data the second one finds it prepared.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[CrewHolder] = []  # in the order in which they were given back
        self._taken: dict[CrewHolder, ClusterConfig] = {}  # and what each is for
        self._turn = threading.RLock()

    def take(self, cluster: ClusterConfig, plugins: tuple[str, ...], slots: Callable[[], int | None]) -> CrewHolder:
        """A holder for one trial, with a warm crew where one fits. Idle crews end whose slots or GPUs the trial needs.

        slots: all those of the session, None while there is none.
        """
        there = slots()
        with self._lock:
            fitting = [holder for holder in self._idle if holder.fits(cluster, plugins)]
            holder = fitting[-1] if fitting else self._new()
            if fitting:
                self._idle.remove(holder)
            self._taken[holder] = cluster
            unneeded = [other for other in self._idle if other.has_gpus and cluster.gpus_per_worker and not fitting]
            self._idle = [other for other in self._idle if other not in unneeded]
            while self._idle and there is not None and self._held() > there:
                unneeded.append(self._idle.pop(0))
        for other in unneeded:
            other.close()
        return holder

    def give_back(self, holder: CrewHolder) -> None:
        """The trial needs its crew no more, which waits for the next one. Nothing, when it was given back before."""
        with self._lock:
            if self._taken.pop(holder, None) is not None:
                self._idle.append(holder)

    def end_idle(self) -> None:
        """End the crews that wait, and give Spark their slots."""
        with self._lock:
            idle, self._idle = self._idle, []
        for holder in idle:
            holder.close()

    def close(self) -> None:
        """End all processes of all crews."""
        self.end_idle()
        for holder in list(self._taken):
            holder.close()

    def _new(self) -> CrewHolder:
        others = _Others(self)
        others.holder = CrewHolder(others)
        return others.holder

    def _held(self) -> int:
        return sum(cluster.workers for cluster in self._taken.values()) + sum(holder.slots for holder in self._idle)


class _Others(Neighbours):
    """A crew's view of the others in its pool."""

    holder: CrewHolder

    def __init__(self, pool: CrewPool) -> None:
        self._pool = pool

    def slots(self) -> int:
        with self._pool._lock:
            own = self._pool._taken.get(self.holder)
            # Slots with GPUs are counted apart, and crews without any take none of these.
            wants_gpus = own is not None and own.gpus_per_worker > 0
            taken = [
                cluster.workers
                for holder, cluster in self._pool._taken.items()
                if holder is not self.holder and (cluster.gpus_per_worker or not wants_gpus)
            ]
            idle = [holder.slots for holder in self._pool._idle if holder is not self.holder]
            return sum(taken) + (0 if wants_gpus else sum(idle))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with self._pool._turn:
            yield

    def make_room(self) -> None:
        self._pool.end_idle()
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until:
            with self._pool._lock:
                others = [holder for holder in self._pool._taken if holder is not self.holder]
            if not any(holder.starting for holder in others):
                return
            time.sleep(_POLL_SECONDS)
