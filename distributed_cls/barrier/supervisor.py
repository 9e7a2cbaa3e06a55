"""The story of a distributed run, told from the driver: check, start the barrier stage, watch it, start it again.

Spark never retries a barrier stage that ends in a collect, so the retry is here, around the whole stage; the ranks
go on from the last checkpoint.
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distributed_cls.barrier.agent import run_rank
from distributed_cls.barrier.diagnosis import essence, reason, telling
from distributed_cls.barrier.monitor import Watch
from distributed_cls.barrier.relay import Relay
from distributed_cls.config import ClusterConfig
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import preflight

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
# How long the other ranks have to report their end after Spark has failed the stage, and the stage to end.
_AFTERMATH_SECONDS = 20.0
_ECHO_SECONDS = 1.0
_LOG_TAIL = 40  # lines of a rank that an error carries
_LOST_PORTS = 3  # rendezvous that are repeated without counting as an attempt

Listener = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """What a stage came to."""

    result: dict[str, Any]
    attempts: int


class _Lost(Exception):
    """An attempt failed in a way that another one may mend."""

    def __init__(self, message: str, port: bool = False) -> None:
        super().__init__(message)
        self.port = port


def run_stage(spark: Any, order: dict[str, Any], fingerprint: str, cluster: ClusterConfig, listen: Listener) -> Outcome:
    """Run ``order`` on ``cluster.workers`` ranks and return rank 0's result. ``listen`` is given every event.

    Raises UserError for what the user can mend, RunError when the last attempt has failed.
    """
    preflight.check(spark, cluster)
    order = {**order, "threads": preflight.threads_per_rank(spark, cluster)}
    attempt = lost_ports = 0
    while True:
        attempt += 1
        listen({"event": "attempt", "number": attempt, "of": cluster.max_attempts})
        try:
            return Outcome(_Attempt(spark, order, fingerprint, cluster, listen).run(), attempt)
        except _Lost as error:
            if error.port and lost_ports < _LOST_PORTS:
                lost_ports += 1
                attempt -= 1
                log.warning("A rank lost its port before TensorFlow bound it; meeting again. %s", error)
            elif attempt >= cluster.max_attempts:
                raise RunError(f"{error} (attempt {attempt} of {cluster.max_attempts}, the last)") from None
            else:
                log.warning("%s", error)
                log.warning(
                    "Starting the stage again from the last checkpoint (%d of %d).", attempt + 1, cluster.max_attempts
                )


class _Attempt:
    """One barrier stage from start to end."""

    def __init__(
        self, spark: Any, order: dict[str, Any], fingerprint: str, cluster: ClusterConfig, listen: Listener
    ) -> None:
        self._spark, self._order, self._fingerprint = spark, order, fingerprint
        self._cluster, self._listen = cluster, listen
        self._group = f"distributed_cls-{uuid.uuid4().hex}"
        self._watch = Watch(cluster.workers, cluster.start_timeout, cluster.stall_timeout, _LOG_TAIL)
        self._answer: dict[str, Any] | None = None
        self._error: Exception | None = None
        self._silent: list[int] = []

    def run(self) -> dict[str, Any]:
        relay = Relay(self._spark.sparkContext.getConf().get("spark.driver.host", "127.0.0.1"))
        stage = threading.Thread(target=self._run_stage, args=(relay,), name="barrier-stage", daemon=True)
        stage.start()
        try:
            self._follow(relay, stage)
        finally:
            # Also on Ctrl-C: the ranks' processes end as soon as the line is cut, whatever Spark does.
            relay.close()
            if stage.is_alive():
                self._cancel()
                stage.join(_AFTERMATH_SECONDS)
        return self._conclude(relay)

    def _cancel(self) -> None:
        from py4j.protocol import Py4JError

        try:
            self._spark.sparkContext.cancelJobGroup(self._group)
        except (OSError, Py4JError) as error:  # its JVM is gone, and the stage with it
            log.debug("The stage could not be cancelled: %s", error)

    def _run_stage(self, relay: Relay) -> None:
        from spark_tensorflow_distributor import MirroredStrategyRunner

        _quieten("MirroredStrategyRunner")
        self._spark.sparkContext.setJobGroup(self._group, "distributed_cls: train and evaluate")
        cluster = self._cluster
        try:
            runner = MirroredStrategyRunner(
                num_slots=cluster.workers * max(1, cluster.gpus_per_worker),
                use_gpu=cluster.gpus_per_worker > 0,
                use_custom_strategy=True,
            )
            self._answer = runner.run(
                run_rank, order=self._order, address=relay.address, secret=relay.secret, fingerprint=self._fingerprint
            )
        except Exception as error:  # whatever Spark raises; told by _conclude, in the thread that can
            self._error = error

    def _follow(self, relay: Relay, stage: threading.Thread) -> None:
        """Pass on events until the stage has ended, or a rank has failed, or nothing moves any more."""
        while stage.is_alive():
            self._drain(relay, wait=True)
            if self._watch.first_failure() is not None:
                self._hear_out(relay)
                self._silent = self._watch.silent()  # now: while the stage is being ended every rank falls silent
                return
            stall = self._watch.stall()
            if stall:
                raise _Lost(stall)
        self._drain(relay, wait=False)

    def _hear_out(self, relay: Relay) -> None:
        """Wait for what an error may be the echo of: another failure, or a rank of which nothing is heard any more."""
        began = time.monotonic()
        while not self._watch.cause_known():
            if time.monotonic() - began >= _ECHO_SECONDS and not self._watch.undecided(began):
                return
            self._drain(relay, wait=True)

    def _drain(self, relay: Relay, wait: bool) -> None:
        try:
            event = relay.events.get(timeout=_TICK_SECONDS) if wait else relay.events.get_nowait()
            while True:
                self._watch.see(event)
                self._listen(event)
                event = relay.events.get_nowait()
        except queue.Empty:
            return

    def _conclude(self, relay: Relay) -> dict[str, Any]:
        self._drain(relay, wait=False)
        failed = self._watch.first_failure()
        if failed is not None:
            self._raise_failure(failed)
        if self._error is not None or self._answer is None:
            gone = self._watch.first_gone()
            who = "no rank had started" if gone is None else f"first gone: {self._watch.describe(gone)}"
            raise _Lost(f"The barrier stage failed ({who}). {reason(self._error)}")
        if "refused" in self._answer:
            raise UserError(self._answer["refused"])
        return self._answer

    def _raise_failure(self, rank: int) -> None:
        state = self._watch.ranks[rank]
        assert state.failure is not None
        message, kind = state.failure["message"], state.failure["kind"]
        if kind == "user":
            raise UserError(message)
        what = f"Rank {rank} on {state.host} failed in {state.phase}, step {state.step}: {essence(message)}"
        silent = [other for other in self._silent if other != rank]
        if silent:  # the one that failed is then only the first that noticed
            what = f"No sign of life from {'; '.join(self._watch.describe(other) for other in silent)}. {what}"
        tail = "".join(f"\n  rank {rank} | {line}" for line in telling(state.log))
        rest = f"{self._order['run_folder']}/logs/rank-{rank}.log"
        raise _Lost(f"{what}{tail}\n  the rest: {rest}", port=kind == "port")


def _quieten(name: str) -> None:
    """Keep the distributor's own notes off the screen: what it says is in our log already."""
    logger = logging.getLogger(name)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
