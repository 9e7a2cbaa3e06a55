"""One run of the launcher: a single job, or one trial of a sweep, which shares its Spark session with the others."""

import dataclasses
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distributed_cls.config import Config
from distributed_cls.contracts.summary import Summary
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.jobs import Run, perform, show
from distributed_cls.spark.session import Session, versions
from launch import schema

log = logging.getLogger(__name__)


class State:
    """What outlives one trial: the Spark session, and the rows of the table of trials."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.rows: list[TrialRow] = []
        self.folder: Path | None = None  # of the trial that runs or ran last
        self.sweep_folder: Path | None = None
        self.errors: list[Exception] = []

    def get_spark(self, config: Config, folder: Path) -> Any:
        """The session of ``config.cluster``: the one that runs, when it is the same cluster."""
        if self.session is not None and not self.session.fits(config.cluster):
            self.close()
        if self.session is None:
            self.session = Session(config.cluster, self.sweep_folder or folder)
        return self.session.spark

    def close(self) -> None:
        if self.session is not None:
            self.session.stop()
        self.session = None


STATE = State()


def run(composed: DictConfig) -> float | None:
    """What Hydra calls: do the job of ``composed``. In a sweep: the val accuracy, None for a trial that failed."""
    hydra = HydraConfig.get()
    STATE.folder = folder = Path(hydra.runtime.output_dir)
    if hydra.mode is not RunMode.MULTIRUN:
        try:
            show(_perform(composed, folder), folder)
        except Exception as error:  # raised again by launch.exit_codes: Hydra would print a line of its own about it
            STATE.errors.append(error)
        return None
    STATE.sweep_folder = Path(hydra.sweep.dir)
    began = time.monotonic()
    row = TrialRow(len(STATE.rows), dict(item.split("=", 1) for item in hydra.overrides.task), str(folder))
    log.info("Trial %d: %s", row.trial, " ".join(hydra.overrides.task))
    try:
        summary = _perform(composed, folder)
    except Exception as error:  # a failed trial is a row with its reason; the sweep goes on
        STATE.errors.append(error)
        log.warning("Trial %d failed: %s", row.trial, error)
        row = dataclasses.replace(row, status=TrialStatus.FAILED, reason=str(error))
    else:
        test = summary.test.accuracy if summary.test else None
        row = dataclasses.replace(row, val_accuracy=_val_accuracy(summary), test_accuracy=test)
    STATE.rows.append(dataclasses.replace(row, seconds=round(time.monotonic() - began, 1)))
    return row.val_accuracy


def _val_accuracy(summary: Summary) -> float | None:
    """Of the evaluation, or of the best epoch when the job only trained."""
    if summary.val is not None:
        return summary.val.accuracy
    return summary.train.val_accuracy if summary.train is not None else None


def _perform(composed: DictConfig, folder: Path) -> Summary:
    config = schema.to_config(composed)
    work = Run(
        config,
        folder,
        lambda: STATE.get_spark(config, folder),
        command=shlex.join(["python", "-m", "launch", *sys.argv[1:]]),
        versions=versions(),
        given=frozenset(item.split("=", 1)[0].lstrip("+") for item in HydraConfig.get().overrides.task),
    )
    if not STATE.rows:
        # The interpreter's own start and its imports count as well: the user waits for them.
        work.seconds["launch"] = round(time.time() - psutil.Process().create_time(), 3)
    return perform(work)
