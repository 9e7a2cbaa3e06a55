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
from collections.abc import Iterable
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
from distributed_cls.errors import EndRequested
from distributed_cls.evaluation import trials
from distributed_cls.jobs import perform, show
from distributed_cls.run.progress import Unseen, is_bar
from distributed_cls.run_context import Run
from distributed_cls.spark.session import Session, versions
from launch import schema, submission
from launch.composition import settings_given
from launch.sweep_state import Sweep, folder_of_command
from launch.sweep_view import SweepView
from launch.trial_watch import TrialWatch

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
    """What Hydra calls for each job, and what outlives it: the Spark session, and the trials of a sweep."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.folder: Path | None = None  # of the job that runs or ran last
        self.sweep: Sweep | None = None
        self._began = False  # whether a job has
        self._session: Session | None = None
        self._crews: CrewHolder | None = None  # of a sweep
        self._view: SweepView | None = None  # of a sweep

    def run(self, composed: DictConfig) -> float | None:
        """Do the job of ``composed``. In a sweep: the validation accuracy, None for a trial that failed."""
        hydra = HydraConfig.get()
        self.folder = folder = Path(hydra.runtime.output_dir)
        if hydra.mode is RunMode.MULTIRUN:
            sweep = self.sweep_in(Path(hydra.sweep.dir))
            return self._trial(sweep, int(hydra.job.num), composed, folder, list(hydra.overrides.task))
        try:
            _warn_of_sweep_settings(hydra.overrides.task)
            summary = self._perform(schema.to_config(composed), folder)
            show(summary, folder)
            _link_latest(folder)
        except Exception as error:  # raised again by launch.exit_codes: Hydra would print a line of its own about it
            self.errors.append(error)
        return None

    def sweep_in(self, folder: Path) -> Sweep:
        """The sweep of this command, in ``folder``. Raises UserError when that holds what cannot be read."""
        if self.sweep is None:
            self.sweep = Sweep(folder)
        return self.sweep

    def _trial(
        self, sweep: Sweep, number: int, composed: DictConfig, folder: Path, overrides: list[str]
    ) -> float | None:
        began = time.monotonic()
        row = sweep.begun(number, overrides, folder)
        log.info("Trial %d: %s", row.trial, " ".join(overrides))
        watch = None
        try:
            config = schema.to_config(composed)
            self._show_sweep(sweep, config)
            watch = TrialWatch(config, sweep, number, folder)
            row = _measured(row, self._perform_again(config, folder, watch))
        except EndRequested as ended:
            assert watch is not None, "it is what asks for the end"
            log.info("Trial %d ends: %s", number, ended)
            row = dataclasses.replace(
                row, status=watch.status, reason=str(ended), val_accuracy=max(watch.curve, default=None)
            )
        except Exception as error:  # a failed trial is a row with its reason; the sweep goes on
            self.errors.append(error)
            log.warning("Trial %d failed: %s", number, error)
            row = dataclasses.replace(row, status=TrialStatus.FAILED, reason=str(error))
        seconds = round(time.monotonic() - began, 1)
        row = dataclasses.replace(row, seconds=seconds, curve=watch.curve if watch else [])
        sweep.put(row)
        if row.done:
            validation, _, took = trials.measures(row)
            log.info("Trial %d is done: validation %s, %s", number, validation, took)
        return None if row.status is TrialStatus.UNFINISHED else row.val_accuracy

    def _show_sweep(self, sweep: Sweep, config: Config) -> None:
        if self._view is None:
            self._view = SweepView(sweep, table=is_bar(config.job.console))
            self._view.begin()

    def end_view(self) -> None:
        """Take the table of a sweep from the terminal, and let its page say that the sweep is over."""
        if self._view is not None:
            self._view.end()
        self._view = None

    def _perform_again(self, config: Config, folder: Path, watch: TrialWatch) -> Summary:
        """Do a trial; when Spark was lost under it, go on with it in another session, ``sweep.retries`` times."""
        for left in range(config.sweep.retries, -1, -1):
            try:
                return self._perform(config, folder, watch)
            except Exception as error:
                if not self._let_go_of_lost_session() or not left:
                    raise
                log.warning("%s", error)
                log.warning("Spark was lost; the trial goes on in a new session (sweep.retries)")
        raise AssertionError("the last start returns or raises")

    def _let_go_of_lost_session(self) -> bool:
        """Whether Spark has ended by itself; the next job then gets a new session."""
        if self._session is None or not self._session.lost:
            return False
        self.close()
        return True

    def _perform(self, config: Config, folder: Path, watch: TrialWatch | None = None) -> Summary:
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
        if watch is not None:
            work.watch = watch
        if self._view is not None and self._view.table:
            work.display = Unseen()
        if not self._began:
            # The interpreter's own start and its imports count as well: the user waits for them.
            work.seconds["launch"] = round(time.time() - psutil.Process().create_time(), 3)
        self._began = True
        return perform(work)

    def _kept_crews(self) -> "CrewHolder | None":
        """In a sweep, what keeps the ranks' agents from trial to trial."""
        if self._crews is None and self.sweep is not None:
            from distributed_cls.barrier.crew import CrewHolder

            self._crews = CrewHolder()
        return self._crews

    def _get_spark(self, config: Config, folder: Path) -> "SparkSession":
        """The session of ``config.cluster``: the one that runs, when it has the same properties."""
        if self._session is not None and not self._session.fits(config.cluster):
            self._session.stop()
            self._session = None
        if self._session is None:
            self._session = Session(config.cluster, self.sweep.folder if self.sweep else folder)
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
        folder = self.folder or folder_of_command()  # a sweep has only the latter before its first trial
        if folder is None or not folder.is_dir() or (self.sweep and self.sweep.rows):
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


def _warn_of_sweep_settings(overrides: Iterable[str]) -> None:
    ignored = sorted(name for name in settings_given(overrides) if name.startswith("sweep."))
    if ignored:
        log.warning("This is a single run, of which %s says nothing: that is for a sweep (-m)", ", ".join(ignored))


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


def _link_latest(folder: Path) -> None:
    """Let ``runs/latest`` lead to a run in ``runs/<date>/``; elsewhere the user has chosen the folder."""
    runs = folder.absolute().parent.parent
    if runs.name != "runs" or not (folder / "checkpoints").is_dir():
        return
    temporary = runs / f".latest-{uuid.uuid4().hex}"
    temporary.symlink_to(os.path.relpath(folder.absolute(), runs))
    temporary.replace(runs / "latest")
