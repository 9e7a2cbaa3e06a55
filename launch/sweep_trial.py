"""One trial of a sweep, from its row that has begun to its row that has ended; it runs in any thread."""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.config import Config
from distributed_cls.contracts.summary import Summary
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import EndRequested
from distributed_cls.evaluation import trials
from distributed_cls.spark.interruptible import Interruption
from distributed_cls.spark.session import Session
from launch import schema
from launch.sweep_state import Sweep
from launch.trial import HydraJob, Launcher
from launch.trial_watch import TrialWatch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


class Trial:
    """Made where Hydra's state is that of the trial, in its row since then; ``run`` needs that state no more."""

    def __init__(self, home: Launcher, sweep: Sweep, job: HydraJob) -> None:
        self.job, self._home, self._sweep = job, home, sweep
        self._began = time.monotonic()
        self._interruption = Interruption()
        self._interrupted = False
        self._is_free = False  # whether its slots are another trial's
        self._row = sweep.begun(job.number, job.overrides, job.folder)
        self._session: Session | None = None  # that it has used last
        self._watch: TrialWatch | None = None
        self._config: Config | None = None
        self._refused: Exception | None = None
        try:
            config = schema.to_config(job.composed)
            home.show_sweep(sweep, config)
            self._watch = TrialWatch(config, sweep, job.number, job.folder)
            self._config = config
        except Exception as error:  # told by ``run``: it is how the trial ends
            self._refused = error

    def run(self, on_free: Callable[[], None] = lambda: None) -> float | None:
        """Do the trial, and put its row; the validation accuracy, None when it failed or is to go on later.

        ``on_free`` is called when its slots are free for another trial, before its report is written.
        """
        number, row, watch = self.job.number, self._row, self._watch
        log.info("Trial %d: %s", number, " ".join(self.job.overrides))
        try:
            with self._interruption.received():
                row = _measured(row, self._perform(on_free))
        except EndRequested as ended:
            log.info("Trial %d ends: %s", number, ended)
            state = TrialStatus.UNFINISHED if watch is None or self._interrupted else watch.status
            best = max(watch.curve, default=None) if watch else None
            row = dataclasses.replace(row, status=state, reason=str(ended), val_accuracy=best)
        except Exception as error:  # a failed trial is a row with its reason; the sweep goes on
            if self._interrupted:  # Spark was stopped under it
                return None
            self._home.errors.append(error)
            log.warning("Trial %d failed: %s", number, error)
            row = dataclasses.replace(row, status=TrialStatus.FAILED, reason=str(error))
        seconds = round(time.monotonic() - self._began, 1)
        row = dataclasses.replace(row, seconds=seconds, curve=watch.curve if watch else [])
        self._sweep.put(row)
        if row.done:
            validation, _, took = trials.measures(row)
            log.info("Trial %d is done: validation %s, %s", number, validation, took)
        return None if row.status is TrialStatus.UNFINISHED else row.val_accuracy

    def interrupt(self) -> None:
        """End the trial, which another thread runs, as Ctrl-C does: with a checkpoint, if its ranks are at work."""
        self._interrupted = True
        if self._watch is not None:
            self._watch.interrupt()
        self._interruption.request()

    def _perform(self, on_free: Callable[[], None]) -> Summary:
        """Do it; when Spark was lost under it, go on with it in another session, ``sweep.retries`` times."""
        if self._refused is not None:
            raise self._refused
        assert self._config is not None
        for left in range(self._config.sweep.retries, -1, -1):
            try:
                return self._perform_once(self._config, on_free)
            except Exception as error:
                lost = self._home.spark.let_go_of_lost(self._session)
                if not lost or not left or self._is_free or self._interrupted:
                    raise
                log.warning("%s", error)
                log.warning("Spark was lost; the trial goes on in a new session (sweep.retries)")
        raise AssertionError("the last start returns or raises")

    def _perform_once(self, config: Config, on_free: Callable[[], None]) -> Summary:
        spark = self._home.spark
        crews = spark.take_crew(config.cluster)

        def free() -> None:
            spark.give_back(crews)
            self._is_free = True
            on_free()

        try:
            return self._home.perform(self.job, config, self._get_spark, self._watch, crews, free)
        finally:
            spark.give_back(crews)

    def _get_spark(self) -> "SparkSession":
        assert self._config is not None
        self._session = self._home.spark.get(self._config.cluster, self._sweep.folder)
        return self._session.spark


def _measured(row: TrialRow, summary: Summary) -> TrialRow:
    """The row of a trial that is done."""
    test = summary.test.accuracy if summary.test else None
    counts = summary.dataset.counts if summary.dataset else {}
    images = {split: sum(classes.values()) for split, classes in counts.items()}
    return dataclasses.replace(
        row,
        status=TrialStatus.DONE,
        val_accuracy=_val_accuracy(summary),
        test_accuracy=test,
        val_images=images.get("val"),
        test_images=images.get("test"),
    )


def _val_accuracy(summary: Summary) -> float | None:
    """Of the evaluation, or of the best epoch when the job only trained."""
    if summary.val is not None:
        return summary.val.accuracy
    return summary.train.val_accuracy if summary.train is not None else None
