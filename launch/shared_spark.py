"""The Spark session of a command, and the crews that its trials share; any thread may ask for them."""

import concurrent.futures
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.config import ClusterConfig, plugins
from distributed_cls.errors import EndRequested
from distributed_cls.spark.interruptible import run_interruptibly
from distributed_cls.spark.session import Session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew_pool import CrewHolder, CrewPool

_ANSWER_SECONDS = 30.0
_FRESH_SECONDS = 5.0  # for which an answer about slots serves: executors come and go more slowly


class SharedSpark:
    """At most one session at a time: the first job starts it, and one with other properties replaces it."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self._lock = threading.RLock()
        self._pool: CrewPool | None = None
        self._closed = False
        self._counted: dict[int, tuple[float, SparkSession, int]] = {}  # slots by GPUs: when, where, how many

    def get(self, cluster: ClusterConfig, folder: Path) -> Session:
        """The session of ``cluster``, which runs: the one that is there, when it has the same properties. ``folder``
        takes the log of one that is started."""
        with self._lock:
            if self._closed:  # a thread that was left behind when the command ended
                raise EndRequested("interrupted")
            if self.session is not None and not self.session.fits(cluster):
                self._stop()
            if self.session is None:
                self.session = Session(cluster, folder)
            assert self.session.spark  # started here, and not by two threads
            return self.session

    def fits(self, cluster: ClusterConfig) -> bool:
        """Whether a job of ``cluster`` needs no other session than the one that is there."""
        session = self.session
        return session is None or session.fits(cluster)

    def slots(self, gpus_per_worker: int = 0) -> int | None:
        """How many workers with so many GPUs each there can be in all; None while there is no session."""
        from py4j.protocol import Py4JError

        from distributed_cls.spark import preflight

        spark = self.session.running if self.session is not None else None
        if spark is None:
            return None
        when, where, found = self._counted.get(gpus_per_worker, (0.0, None, 0))
        if where is spark and time.monotonic() - when < _FRESH_SECONDS:
            return found
        try:
            found = run_interruptibly(lambda: preflight.slots(spark, gpus_per_worker), limit=_ANSWER_SECONDS)
        except (OSError, Py4JError, concurrent.futures.TimeoutError):  # it is lost, which the trials in it find out
            return None
        self._counted[gpus_per_worker] = (time.monotonic(), spark, found)
        return found

    def let_go_of_lost(self, used: Session | None) -> bool:
        """Whether the session that a job used has ended by itself; whoever asks for one then gets another.

        Of several jobs that ran in it each is told so.
        """
        with self._lock:
            if used is None or (used is self.session and not used.lost):
                return False
            if used is self.session:
                self._stop()
            return True

    def take_crew(self, cluster: ClusterConfig) -> "CrewHolder":
        """What keeps the ranks' agents of one trial, from a trial before it and, given back, for one after it."""
        return self._crews().take(cluster, plugins.load(), self.slots)

    def give_back(self, holder: "CrewHolder") -> None:
        """The trial needs its crew no more."""
        self._crews().give_back(holder)

    def _crews(self) -> "CrewPool":
        with self._lock:
            if self._pool is None:
                from distributed_cls.barrier.crew_pool import CrewPool

                self._pool = CrewPool()
            return self._pool

    def close(self) -> None:
        """End the ranks' processes, and stop Spark."""
        self._closed = True
        if self._pool is not None:
            self._pool.close()
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.end_idle()
        if self.session is not None:
            self.session.stop()
        self.session = None
