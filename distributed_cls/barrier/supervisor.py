"""The story of a distributed run, told from the driver: check, start the barrier stage, watch it, start it again.

Spark never retries a barrier stage that ends in a collect, so the retry is here, around the whole stage; the ranks
go on from the last checkpoint. What follows from a failure is decided in ``policy.py``.
"""

import dataclasses
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributed_cls.barrier import policy
from distributed_cls.barrier.agent import run_rank
from distributed_cls.barrier.diagnosis import last_informative_lines, without_stack_trace
from distributed_cls.barrier.monitor import RankMonitor
from distributed_cls.barrier.policy import AttemptStatus, Decision
from distributed_cls.barrier.relay import Relay
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts import rank_task
from distributed_cls.contracts.events import AttemptStarted, Event, FailureKind
from distributed_cls.contracts.rank_task import RankResult, RankTask
from distributed_cls.contracts.summary import FailedAttempt
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import preflight
from distributed_cls.spark.barrier import run_barrier
from distributed_cls.spark.java_errors import task_reason

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
# How long the other ranks have to report their end after Spark has failed the stage, and the stage to end.
_AFTERMATH_SECONDS = 20.0
_CONSEQUENCE_SECONDS = 1.0  # within which the root cause of an error mostly arrives
_QUIET_SECONDS = 10.0  # without progress, before a line tells where the ranks are

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """What a stage came to, and what went wrong on the way."""

    result: RankResult
    attempts: int
    failed_attempts: list[FailedAttempt] = field(default_factory=list)


class _AttemptFailed(Exception):
    """An attempt ended without a result."""

    def __init__(self, status: AttemptStatus) -> None:
        super().__init__(status.message)
        self.status = status


def run_ranks(spark: "SparkSession", task: RankTask, cluster: ClusterConfig, listen: Listener) -> Outcome:
    """Run ``task`` on ``cluster.workers`` ranks and return rank 0's result. ``listen`` is given every event.

    Raises UserError for what the user can fix, RunError when no further attempt is made.
    """
    preflight.check(spark, cluster)
    task = dataclasses.replace(task, threads=preflight.threads_per_rank(spark, cluster))
    history: list[AttemptStatus] = []
    while True:
        number = policy.counted(history) + 1
        listen(AttemptStarted(number=number, of=cluster.max_attempts, time=time.time()))
        began = time.monotonic()
        try:
            result = _Attempt(spark, task, cluster, listen).run()
            return Outcome(result, len(history) + 1, _failed_attempts(history))
        except _AttemptFailed as failed:
            status = dataclasses.replace(failed.status, seconds=round(time.monotonic() - began, 3))
        _continue_or_raise(status, history, cluster.max_attempts)
        history.append(status)
        preflight.wait_for_slots(spark, cluster)


def _continue_or_raise(status: AttemptStatus, history: list[AttemptStatus], max_attempts: int) -> None:
    verdict = policy.decide(status, history, max_attempts)
    whole = "\n  ".join([status.message, *status.details])
    if verdict.decision is Decision.REFUSE:
        raise UserError(status.message)
    if verdict.decision is Decision.FAIL:
        earlier = "".join(
            f"\n  earlier: attempt {number} ended after {before.seconds:.0f} s: {before.message}"
            for number, before in enumerate(history, start=1)
        )
        raise RunError(f"{status.message} ({verdict.reason}){whole.removeprefix(status.message)}{earlier}")
    log.warning("%s", whole)
    log.warning("%s.", verdict.reason[:1].upper() + verdict.reason[1:])


def _failed_attempts(history: list[AttemptStatus]) -> list[FailedAttempt]:
    return [
        FailedAttempt(number, status.kind.value, status.message, status.seconds)
        for number, status in enumerate(history, start=1)
    ]


class _Attempt:
    """One barrier stage from start to end."""

    def __init__(self, spark: "SparkSession", task: RankTask, cluster: ClusterConfig, listen: Listener) -> None:
        self._spark, self._task, self._cluster, self._listen = spark, task, cluster, listen
        self._group = f"distributed_cls-{uuid.uuid4().hex}"
        self._monitor = RankMonitor(cluster)
        self._answer: str | None = None
        self._error: Exception | None = None
        self._silent: list[int] = []
        self._told_quiet = _QUIET_SECONDS  # of idle seconds, the next that is worth a line

    def run(self) -> RankResult:
        relay = Relay(self._spark.sparkContext.getConf().get("spark.driver.host", "127.0.0.1"))
        stage = threading.Thread(target=self._run_stage, args=(relay,), name="barrier-stage", daemon=True)
        stage.start()
        try:
            self._follow(relay, stage)
        finally:
            # Also on Ctrl-C: the ranks' processes end as soon as the connection closes, whatever Spark does.
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
        try:
            self._answer = run_barrier(
                self._spark,
                self._group,
                self._cluster.workers,
                self._cluster.gpus_per_worker,
                run_rank,
                task=rank_task.dump_task(self._task),
                address=relay.address,
                secret=relay.secret,
            )
        except Exception as error:  # whatever Spark raises; _conclude reports it, in the thread that can
            self._error = error

    def _follow(self, relay: Relay, stage: threading.Thread) -> None:
        """Pass on events until the stage has ended, or a rank has failed, or nothing moves any more."""
        while stage.is_alive():
            self._drain(relay, wait=True)
            if self._monitor.first_failure() is not None:
                self._wait_for_root_cause(relay)
                # Now: while the stage is being ended every rank falls silent.
                self._silent = self._monitor.silent()
                return
            stalled = self._monitor.stalled()
            if stalled:
                raise _AttemptFailed(AttemptStatus(FailureKind.STALLED, stalled))
            self._tell_when_quiet()
        self._drain(relay, wait=False)

    def _tell_when_quiet(self) -> None:
        """A line after 10 s without progress, after 20 s, 40 s, and so on."""
        idle = self._monitor.idle_seconds()
        if idle < _QUIET_SECONDS:
            self._told_quiet = _QUIET_SECONDS
        elif idle >= self._told_quiet:
            self._told_quiet *= 2
            log.info("No progress for %.0f s: %s", idle, self._monitor.positions())

    def _wait_for_root_cause(self, relay: Relay) -> None:
        """Wait for what an error may follow from: another failure, or a rank that sends nothing any more."""
        began = time.monotonic()
        while not self._monitor.root_cause_known():
            if time.monotonic() - began >= _CONSEQUENCE_SECONDS and not self._monitor.awaiting_reports(began):
                return
            self._drain(relay, wait=True)

    def _drain(self, relay: Relay, wait: bool) -> None:
        try:
            event = relay.events.get(timeout=_TICK_SECONDS) if wait else relay.events.get_nowait()
            while True:
                self._monitor.update(event)
                self._listen(event)
                event = relay.events.get_nowait()
        except queue.Empty:
            return

    def _conclude(self, relay: Relay) -> RankResult:
        self._drain(relay, wait=False)
        failed = self._monitor.first_failure()
        if failed is not None:
            raise _AttemptFailed(self._status_of(failed))
        if self._error is not None or self._answer is None:
            gone = self._monitor.first_disconnected()
            who = "no rank had started" if gone is None else f"first lost: {self._monitor.describe(gone)}"
            message = f"The barrier stage failed ({who}). {task_reason(self._error)}"
            raise _AttemptFailed(AttemptStatus(FailureKind.STAGE, message))
        answer = rank_task.load_answer(self._answer)
        if answer.refusal is not None:
            raise UserError(answer.refusal)
        assert answer.result is not None, "a barrier task answers with a result or a refusal"
        return answer.result

    def _status_of(self, rank: int) -> AttemptStatus:
        """How the attempt ended, by the rank that failed first."""
        state = self._monitor.ranks[rank]
        assert state.failure is not None
        kind, message = state.failure.failure, state.failure.message
        if kind is FailureKind.USER:
            return AttemptStatus(kind, message, state.step)
        where = f"Rank {rank} on {state.host} failed in {state.phase.value}, step {state.step}"
        what = f"{where}: {without_stack_trace(message)}"
        silent = [other for other in self._silent if other != rank]
        if silent:  # the one that failed is then only the first that noticed
            what = f"No heartbeat from {'; '.join(self._monitor.describe(other) for other in silent)}. {what}"
        tail = [f"rank {rank} | {line}" for line in last_informative_lines(state.log)]
        return AttemptStatus(
            kind, what, state.step, details=(*tail, f"the rest: {self._task.run_folder}/logs/rank-{rank}.log")
        )
