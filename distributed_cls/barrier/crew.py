"""The driver's side of a crew: one barrier stage whose tasks are agents, and the control line to them.

The stage stays while attempt follows attempt and job follows job; only when Spark loses one of its tasks is it started
again.
"""

import contextlib
import logging
import queue
import socket
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.barrier import warm_process
from distributed_cls.barrier.agent import AgentPlace, run_agent
from distributed_cls.barrier.control_line import ControlServer
from distributed_cls.barrier.rank_process import environment
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.events import Event
from distributed_cls.contracts.orders import Leave, Order
from distributed_cls.spark import executor_pods, master, preflight
from distributed_cls.spark.barrier import run_barrier
from distributed_cls.spark.driver_address import DriverAddress
from distributed_cls.spark.java_errors import task_reason
from distributed_cls.spark.session import is_submitted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_END_SECONDS = 20.0  # for a stage to end that was told to
_LEAVE_SECONDS = 5.0  # for its agents to leave by themselves


class Neighbours:
    """What a crew must know of the others in its session; as it is here, there are none."""

    def slots(self) -> int:
        """The slots that they hold."""
        return 0

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """For a block in which other tasks than ranks may run: none of the neighbours starts or does the same."""
        return contextlib.nullcontext()

    def make_room(self) -> None:
        """Wait, within the turn, until those that have just started have their slots: other tasks would take them."""


class Stage:
    """One barrier stage, from its start to its end."""

    def __init__(
        self,
        spark: "SparkSession",
        cluster: ClusterConfig,
        workers: int,
        plugins: tuple[str, ...],
        warm: str | None,
        held: Callable[[], int] = preflight.none_held,
    ) -> None:
        """``workers``: the agents of this stage, fewer than the cluster's own where slots are missing. ``held``: the
        slots that others hold."""
        self._spark, self._cluster, self.workers, self._held = spark, cluster, workers, held
        self._group = f"distributed_cls-{uuid.uuid4().hex}"
        self.error: Exception | None = None
        driver = DriverAddress.of(spark.sparkContext.getConf())
        self._server = ControlServer(driver.host, cluster.reconnect_timeout, bind=driver.bind, ports=cluster.port_range)
        self._place = AgentPlace(
            self._server.address,
            self._server.secret,
            preflight.threads_per_rank(spark, cluster),
            plugins,
            cluster.reconnect_timeout,
            warm,
            cluster.port_range,
        )
        self._thread = threading.Thread(target=self._run, name="barrier-stage", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        cluster = self._cluster
        try:
            run_barrier(self._spark, self._group, self.workers, cluster.gpus_per_worker, run_agent, place=self._place)
        except Exception as error:  # whatever Spark raises; the supervisor reports it, in the thread that can
            self.error = error

    @property
    def alive(self) -> bool:
        """Whether the stage runs; its agents may not have been heard of yet."""
        return self._thread.is_alive()

    def why_ended(self) -> str | None:
        """Why Spark has ended the stage; None while it runs, or when it was told to end."""
        return task_reason(self.error, executor_pods.memory_limit(self._spark)) if self.error else None

    def can_grow(self) -> bool:
        """Whether this stage has fewer agents than the cluster has workers, and the slots for all are back."""
        return self.workers < self._cluster.workers and preflight.has_all_slots(self._spark, self._cluster, self._held)

    def agents(self) -> set[int]:
        """The ranks whose agents have been heard of and are not lost."""
        return self._server.ranks()

    def order(self, order: Order, rank: int | None = None) -> None:
        """Send an order to the agent of ``rank``, or to all."""
        for each in range(self.workers) if rank is None else [rank]:
            self._server.order(each, order)

    def report(self, timeout: float) -> tuple[int, Event] | None:
        """The next report of an agent: attempt and event. None when there is none within ``timeout`` seconds."""
        try:
            return self._server.reports.get(timeout=timeout)
        except queue.Empty:
            return None

    def end(self) -> None:
        """End the stage: its agents leave by themselves, or when the line is closed, or when Spark cancels them."""
        self.order(Leave(attempt=0))
        self._thread.join(_LEAVE_SECONDS)
        self._server.close()
        if self._thread.is_alive():
            self._cancel()
            self._thread.join(_END_SECONDS)

    def _cancel(self) -> None:
        from py4j.protocol import Py4JError

        try:
            self._spark.sparkContext.cancelJobGroup(self._group)
        except (OSError, Py4JError) as error:  # its JVM is gone, and the stage with it
            log.debug("The stage could not be cancelled: %s", error)


class _SharedWarmProcess:
    """The warm process of a local master: all agents are on this machine, and TensorFlow is imported once."""

    def __init__(self, threads: int, plugins: tuple[str, ...]) -> None:
        # A name of Linux's own, which leaves no file behind; the process lets only its own user in.
        self.address = f"\0distributed_cls-{uuid.uuid4().hex}"
        self._own_end, theirs = socket.socketpair()
        # Made here: agents may come before the process has begun to listen.
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.address)
            listener.listen()
            descriptors = [listener.fileno(), theirs.fileno()]
            place = ["--listen", str(descriptors[0]), "--owner", str(descriptors[1])]
            self._process = warm_process.start_process(environment(threads, plugins), place, descriptors)
        threading.Thread(target=self._drain, name="warm-log", daemon=True).start()

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # closed
            for raw in self._process.stdout:
                log.debug("warm process | %s", raw.decode("utf-8", "replace").rstrip())

    def close(self) -> None:
        self._own_end.close()
        warm_process.end_process(self._process)


class Crew:
    """The agents that do a job's ranks, and those of the jobs after it. ``close`` ends everything of them."""

    def __init__(
        self, cluster: ClusterConfig, plugins: tuple[str, ...] = (), neighbours: Neighbours | None = None
    ) -> None:
        self._cluster, self._plugins = cluster, plugins
        self._neighbours = neighbours or Neighbours()
        self._stage: Stage | None = None
        self._warm: _SharedWarmProcess | None = None
        self._attempts = 0

    def next_attempt(self) -> int:
        """A number for the next attempt, of whichever job: no two of a crew have the same."""
        self._attempts += 1
        return self._attempts

    def warm_up(self) -> None:
        """Begin TensorFlow's import where the ranks will be on this machine, beside Spark's own start."""
        cluster = self._cluster
        elsewhere = not master.is_local(cluster.master) or cluster.python or is_submitted()
        if self._warm is None and not elsewhere and not cluster.gpus_per_worker:
            # The import itself needs one; a rank sets its own before TensorFlow makes any.
            self._warm = _SharedWarmProcess(cluster.cores_per_worker or 1, self._plugins)

    def stage(self, spark: "SparkSession") -> Stage:
        """The stage that runs, or a new one: with as many agents as there are slots for."""
        if self._stage is None or not self._stage.alive or self._stage.can_grow():
            self.leave()
            held = self._neighbours.slots
            workers = preflight.wait_for_slots(spark, self._cluster, held)
            warm = self._warm.address if self._warm else None
            with self._neighbours.turn():
                self._stage = Stage(spark, self._cluster, workers, self._plugins, warm, held)
        return self._stage

    @property
    def slots(self) -> int:
        """The slots that its stage holds."""
        stage = self._stage
        return stage.workers if stage is not None and stage.alive else 0

    @property
    def starting(self) -> bool:
        """Whether its stage has begun, and not all of its agents have been heard of."""
        stage = self._stage
        return stage is not None and stage.alive and len(stage.agents()) < stage.workers

    @property
    def alone(self) -> bool:
        """Whether every slot is free: neither this crew nor another one of the session has any."""
        return self.slots + self._neighbours.slots() == 0

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """For a block in which ``with_slots`` may be called."""
        return self._neighbours.turn()

    def with_slots(self, spark: "SparkSession") -> "SparkSession":
        """``spark`` for another stage than the crew's, which would wait for its slots for ever."""
        self.leave()
        self._neighbours.make_room()
        return spark

    def leave(self) -> None:
        """Give Spark its slots back; the next job starts a new stage."""
        if self._stage is not None:
            self._stage.end()
        self._stage = None

    def close(self) -> None:
        """End all processes of the crew."""
        self.leave()
        if self._warm is not None:
            self._warm.close()
        self._warm = None
