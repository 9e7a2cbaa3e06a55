"""One run of the launcher: a single job, or one trial of a sweep, which shares its Spark session with the others."""

import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from distributed_cls.config import Config
from distributed_cls.contracts import status
from distributed_cls.contracts.summary import Summary
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.jobs import perform, show
from distributed_cls.run_context import Run
from distributed_cls.spark.session import Session, versions
from launch import schema, submission
from launch.composition import settings_given

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew import CrewHolder

log = logging.getLogger(__name__)

# What is in a folder before any job has done something.
_BEFORE_WORK = (".hydra", "launch.log", "multirun.yaml", status.FILE)


class SweepBegins(Callback):
    """Lets ``HydraConfig`` know a sweep before its first trial, which may be refused."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        HydraConfig.instance().set_config(config)


class Launcher:
    """What Hydra calls for each job, and what outlives it: the Spark session, and the rows of the table of trials."""

    def __init__(self) -> None:
        self.rows: list[TrialRow] = []
        self.errors: list[Exception] = []
        self.folder: Path | None = None  # of the job that runs or ran last
        self.sweep_folder: Path | None = None
        self._session: Session | None = None
        self._crews: CrewHolder | None = None  # of a sweep

    def run(self, composed: DictConfig) -> float | None:
        """Do the job of ``composed``. In a sweep: the validation accuracy, None for a trial that failed."""
        hydra = HydraConfig.get()
        self.folder = folder = Path(hydra.runtime.output_dir)
        if hydra.mode is RunMode.MULTIRUN:
            self.sweep_folder = Path(hydra.sweep.dir)
            return self._trial(composed, folder, list(hydra.overrides.task))
        try:
            summary = self._perform(composed, folder)
            show(summary, folder)
            _link_latest(folder)
        except Exception as error:  # raised again by launch.exit_codes: Hydra would print a line of its own about it
            self.errors.append(error)
        return None

    def _trial(self, composed: DictConfig, folder: Path, overrides: list[str]) -> float | None:
        began = time.monotonic()
        row = TrialRow(len(self.rows), dict(item.split("=", 1) for item in overrides), str(folder))
        log.info("Trial %d: %s", row.trial, " ".join(overrides))
        try:
            summary = self._perform(composed, folder)
        except Exception as error:  # a failed trial is a row with its reason; the sweep goes on
            self.errors.append(error)
            log.warning("Trial %d failed: %s", row.trial, error)
            row = dataclasses.replace(row, status=TrialStatus.FAILED, reason=str(error))
        else:
            test = summary.test.accuracy if summary.test else None
            counts = summary.dataset.counts if summary.dataset else {}
            images = {split: sum(classes.values()) for split, classes in counts.items()}
            row = dataclasses.replace(row, val_accuracy=_val_accuracy(summary), test_accuracy=test)
            row = dataclasses.replace(row, val_images=images.get("val"), test_images=images.get("test"))
        self.rows.append(dataclasses.replace(row, seconds=round(time.monotonic() - began, 1)))
        return row.val_accuracy

    def _perform(self, composed: DictConfig, folder: Path) -> Summary:
        config = schema.to_config(composed)
        submission.check_places(config, folder)
        work = Run(
            config,
            folder,
            lambda: self._get_spark(config, folder),
            command=shlex.join(["python", "-m", "launch", *sys.argv[1:]]),
            versions=versions(),
            crews=self._kept_crews(),
            given=settings_given(HydraConfig.get().overrides.task),
        )
        if not self.rows:
            # The interpreter's own start and its imports count as well: the user waits for them.
            work.seconds["launch"] = round(time.time() - psutil.Process().create_time(), 3)
        return perform(work)

    def _kept_crews(self) -> "CrewHolder | None":
        """In a sweep, what keeps the ranks' agents from trial to trial."""
        if self._crews is None and self.sweep_folder is not None:
            from distributed_cls.barrier.crew import CrewHolder

            self._crews = CrewHolder()
        return self._crews

    def _get_spark(self, config: Config, folder: Path) -> "SparkSession":
        """The session of ``config.cluster``: the one that runs, when it has the same properties."""
        if self._session is not None and not self._session.fits(config.cluster):
            self._session.stop()
            self._session = None
        if self._session is None:
            self._session = Session(config.cluster, self.sweep_folder or folder)
        return self._session.spark

    def close(self) -> None:
        """End the ranks' processes, and stop Spark."""
        if self._crews is not None:
            self._crews.close()
        if self._session is not None:
            self._session.stop()
        self._session = None

    def remove_empty_folder(self) -> None:
        """Remove the folder of a command that was refused before it did anything."""
        folder = self.folder
        if folder is None and HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
            folder = Path(HydraConfig.get().sweep.dir)  # of a sweep whose first trial was refused
        if folder is None or not folder.is_dir() or self.rows:
            return
        if any(path.name not in _BEFORE_WORK for path in folder.iterdir()):
            return
        for name in _BEFORE_WORK:
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        # Folders above a folder that the user has chosen are the user's; rmdir leaves those that hold something.
        ours = folder.absolute().parents[1].name == "runs"
        with contextlib.suppress(OSError):
            for empty in (folder, *(folder.absolute().parents[:2] if ours else ())):
                empty.rmdir()


def _val_accuracy(summary: Summary) -> float | None:
    """Of the evaluation, or of the best epoch when the job only trained."""
    if summary.val is not None:
        return summary.val.accuracy
    return summary.train.val_accuracy if summary.train is not None else None


def _link_latest(folder: Path) -> None:
    """Let ``runs/latest`` lead to a run in ``runs/<date>/``; elsewhere the user has chosen the folder."""
    runs = folder.absolute().parent.parent
    if runs.name != "runs" or not (folder / "checkpoints").is_dir():
        return
    temporary = runs / f".latest-{uuid.uuid4().hex}"
    temporary.symlink_to(os.path.relpath(folder.absolute(), runs))
    temporary.replace(runs / "latest")
