"""The story of a distributed run, told from the driver: attempt after attempt on the agents of a crew.

Spark never retries a barrier stage that ends in a collect, so the retry is here; the ranks go on from their last state.
What follows from a failure is decided in ``policy.py``.
"""

import dataclasses
import logging
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.barrier import policy
from distributed_cls.barrier.attempt import Attempt, AttemptFailed, Job, Listener
from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.policy import AttemptStatus, Decision
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import AttemptStarted, FailureKind
from distributed_cls.contracts.rank_task import RankResult, RankTask
from distributed_cls.contracts.summary import FailedAttempt
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import preflight

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a stage came to, and what went wrong on the way."""

    result: RankResult
    attempts: int
    workers: int  # of the attempt that came to it
    failed_attempts: list[FailedAttempt] = field(default_factory=list)


def run_ranks(spark: "SparkSession", task: RankTask, crew: Crew, listen: Listener) -> Outcome:
    """Run ``task`` on the ranks of ``crew`` and return rank 0's result. ``listen`` is given every event.

    Raises UserError for what the user can fix, RunError when no further attempt is made.
    """
    cluster = task.config.cluster
    preflight.check_properties(spark, cluster)
    threads = preflight.threads_per_rank(spark, cluster)
    task = dataclasses.replace(task, threads=threads, began_here=_begins_here(task))
    job = Job(uuid.uuid4().hex, task)
    history: list[AttemptStatus] = []
    while True:
        began = time.monotonic()
        stage = crew.stage(spark)
        number = policy.counted(history) + 1
        listen(AttemptStarted(number=number, of=cluster.max_attempts, workers=stage.workers, time=time.time()))
        try:
            result = Attempt(stage, job, crew.next_attempt(), listen).run()
            return Outcome(result, len(history) + 1, stage.workers, _failed_attempts(history))
        except AttemptFailed as failed:
            seconds = round(time.monotonic() - began, 3)
            status = dataclasses.replace(failed.status, seconds=seconds, workers=stage.workers)
        _continue_or_raise(status, history, cluster.max_attempts)
        history.append(status)
        if status.kind is FailureKind.INTERRUPTED:
            crew.leave()  # whoever ends a rank by SIGTERM mostly wants its place


def _begins_here(task: RankTask) -> bool:
    """Whether no command before this one has left a checkpoint: a copy in a store counts as one."""
    return not (task.config.train.checkpoint_dir or checkpoint.kept(Path(task.run_folder, "checkpoints")))


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
        FailedAttempt(number, status.kind.value, status.message, status.seconds, status.workers)
        for number, status in enumerate(history, start=1)
    ]
