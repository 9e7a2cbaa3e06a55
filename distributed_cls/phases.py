"""The phases of a training: the head on a frozen backbone, then, where wanted, the top of the backbone as well.

Each is a task of its own for the ranks, with epochs, rate, early stopping and optimizer of its own. Both write into the
same checkpoints, which say whose they are; a run that was interrupted goes on in its phase.
"""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls import time_budget
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import EpochEnded, Event, TrainProgressed
from distributed_cls.contracts.rank_task import RankTask, Step, TrainResult
from distributed_cls.run import progress
from distributed_cls.run.progress import Display
from distributed_cls.run.recorder import Recorder
from distributed_cls.run_context import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew import Crew
    from distributed_cls.barrier.supervisor import Outcome

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Performed:
    """What a task came to."""

    outcome: "Outcome"
    recorders: list[Recorder]  # of each phase
    seconds: dict[str, float]  # of each stage, of all phases


def perform(run: Run, spark: "SparkSession", crew: "Crew", task: RankTask, display: Display) -> Performed:
    """Do ``task`` on the ranks, a phase of its training after the other. Raises UserError and RunError."""
    train = task.config.train
    if train.time_budget is not None and Step.TRAIN in task.steps:
        return _perform_in_time(run, spark, crew, task, display)
    if Step.TRAIN not in task.steps or not train.fine_tune_epochs:
        return _perform_one(run, spark, crew, task, display)
    found = checkpoint.newest_position(Path(task.run_folder) / "checkpoints")
    first, before = found and found[1].first_phase, None
    if first is None:
        before = _perform_one(run, spark, crew, dataclasses.replace(task, steps=(Step.TRAIN,)), display)
        first = before.outcome.result.train
    assert first is not None, "a task with training has its result"
    log.info(
        "Second phase: %d epochs from the model of epoch %d on, at a rate of up to %g",
        *(train.fine_tune_epochs, first.best_epoch, train.second_phase().peak_rate),
    )
    after = _perform_one(run, spark, crew, dataclasses.replace(task, first_phase=first, features=None), display)
    second = after.outcome.result.train
    assert second is not None, "a task with training has its result"
    result = dataclasses.replace(after.outcome.result, train=_joined(first, second))
    after = dataclasses.replace(after, outcome=dataclasses.replace(after.outcome, result=result))
    return after if before is None else _both(before, after)


def _perform_in_time(run: Run, spark: "SparkSession", crew: "Crew", task: RankTask, display: Display) -> Performed:
    """Do ``task`` with as many epochs as fit ``train.time_budget``, which the summary then names."""

    def measure(measuring: RankTask) -> "Outcome":
        with run.timed("measure"):
            return _perform_one(run, spark, crew, measuring, display).outcome

    task, measured = time_budget.fitted(task, measure)
    run.config = task.config
    performed = _perform_one(run, spark, crew, task, display)
    return dataclasses.replace(performed, outcome=_after(measured, performed.outcome))


def _both(before: Performed, after: Performed) -> Performed:
    """The second phase, with the failed attempts and the seconds of the first one."""
    stages = [*before.seconds, *(stage for stage in after.seconds if stage not in before.seconds)]
    seconds = {stage: round(before.seconds.get(stage, 0.0) + after.seconds.get(stage, 0.0), 3) for stage in stages}
    return Performed(_after(before.outcome, after.outcome), [*before.recorders, *after.recorders], seconds)


def _after(before: "Outcome | None", outcome: "Outcome") -> "Outcome":
    """The outcome with the attempts of the phase before it: those that failed, and one for both phases."""
    if before is None:
        return outcome
    failures = before.attempts - 1
    later = [dataclasses.replace(failed, number=failures + failed.number) for failed in outcome.failed_attempts]
    return dataclasses.replace(
        outcome, attempts=failures + outcome.attempts, failed_attempts=[*before.failed_attempts, *later]
    )


def _perform_one(run: Run, spark: "SparkSession", crew: "Crew", task: RankTask, display: Display) -> Performed:
    """One phase; its logs and metrics go to the run folder of the task."""
    from distributed_cls.barrier.supervisor import run_ranks

    recorder = Recorder(Path(task.run_folder))
    view = progress.TrainingView(display, task.config.cluster.workers)

    def listen(event: Event) -> None:
        counted = _counted_on(event, task)
        recorder(counted)
        run.status(counted)
        run.tracking(counted)
        view(counted)
        run.watch(counted)

    try:
        outcome = run_ranks(spark, task, crew, listen)
    finally:
        recorder.close()
        display.end()
    return Performed(outcome, [recorder], recorder.stage_seconds())


def _counted_on(event: Event, task: RankTask) -> Event:
    """The event of a rank with the epochs and steps of the whole run: a rank counts those of its phase."""
    first = task.first_phase
    if first is None:
        return event
    if isinstance(event, EpochEnded):
        return dataclasses.replace(event, epoch=first.epochs + event.epoch, step=first.steps + event.step)
    if isinstance(event, TrainProgressed):
        return dataclasses.replace(
            event,
            epoch=first.epochs + event.epoch,
            epochs=first.epochs + event.epochs,
            step=first.steps + event.step,
            steps=first.steps + event.steps,
        )
    return event


def _joined(first: TrainResult, second: TrainResult) -> TrainResult:
    """What both phases came to; the best validation is already that of both."""
    return dataclasses.replace(
        second,
        epochs=first.epochs + second.epochs,
        steps=first.steps + second.steps,
        best_epoch=first.epochs + second.best_epoch if second.best_epoch else first.best_epoch,
        first_phase_epochs=first.epochs,
    )
