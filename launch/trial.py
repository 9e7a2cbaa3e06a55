"""One run of the launcher: a single job, or one trial of a sweep, which shares its Spark session with the others."""

import contextlib
import logging
import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from distributed_cls.config import Config
from distributed_cls.contracts.events import Event
from distributed_cls.contracts.summary import Summary
from distributed_cls.jobs import perform, show
from distributed_cls.run.progress import Display, Unseen, is_bar
from distributed_cls.run_context import Run
from distributed_cls.spark.session import versions
from launch import schema, submission
from launch.admission import BusySlots
from launch.composition import settings_given
from launch.earlier_settings import BEFORE_WORK
from launch.shared_spark import SharedSpark
from launch.sweep_state import Sweep, folder_of_command
from launch.sweep_view import SweepView

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew_pool import CrewHolder
    from launch.sweep_trial import Trial

log = logging.getLogger(__name__)


class SweepBegins(Callback):
    """Lets ``HydraConfig`` know a sweep before its first trial, which may be refused."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        HydraConfig.instance().set_config(config)


@dataclass(frozen=True)
class HydraJob:
    """A job as Hydra has composed it, with all that its own state tells of it: the next job replaces that."""

    composed: DictConfig
    folder: Path
    overrides: tuple[str, ...]
    place: dict[str, str]  # the setting of its folder, or of its sweep's, and the value
    sweep: Path | None = None  # folder
    number: int = 0  # in the sweep

    @classmethod
    def current(cls, composed: DictConfig) -> "HydraJob":
        """The job that Hydra is in."""
        hydra = HydraConfig.get()
        folder, overrides = Path(hydra.runtime.output_dir), tuple(hydra.overrides.task)
        if hydra.mode is not RunMode.MULTIRUN:
            return cls(composed, folder, overrides, {"hydra.run.dir": hydra.run.dir})
        place = hydra.sweep.dir
        return cls(composed, folder, overrides, {"hydra.sweep.dir": place}, Path(place), int(hydra.job.num))


class Launcher:
    """What Hydra calls for each job, and what outlives it: the Spark session, and the trials of a sweep."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.folder: Path | None = None  # of the job that runs or ran last
        self.sweep: Sweep | None = None
        self.spark = SharedSpark()
        self.side_by_side = False  # whether several trials run at once
        self.busy = BusySlots()  # of such trials
        self._began = False  # whether a job has
        self._view: SweepView | None = None  # of a sweep

    def run(self, composed: DictConfig) -> float | None:
        """Do the job of ``composed``. In a sweep: the validation accuracy, None for a trial that failed."""
        job = HydraJob.current(composed)
        self.folder = job.folder
        if job.sweep is not None:
            return self.trial(job).run()
        try:
            _warn_of_sweep_settings(job.overrides)
            config = schema.to_config(composed)
            summary = self.perform(job, config, lambda: self.spark.get(config.cluster, job.folder).spark)
            show(summary, job.folder)
            _link_latest(job.folder)
        except Exception as error:  # raised again by launch.exit_codes: Hydra would print a line of its own about it
            self.errors.append(error)
        return None

    def sweep_in(self, folder: Path) -> Sweep:
        """The sweep of this command, in ``folder``. Raises UserError when that holds what cannot be read."""
        if self.sweep is None:
            self.sweep = Sweep(folder)
        return self.sweep

    def trial(self, job: HydraJob) -> "Trial":
        """The trial that ``job`` is; it has begun."""
        from launch.sweep_trial import Trial

        assert job.sweep is not None
        self.folder = job.folder
        return Trial(self, self.sweep_in(job.sweep), job)

    def show_sweep(self, sweep: Sweep, config: Config) -> None:
        """Show the trials of ``sweep`` from now on, once."""
        if self._view is None:
            self._view = SweepView(sweep, table=is_bar(config.job.console))
            self._view.begin()

    def end_view(self) -> None:
        """Take the table of a sweep from the terminal, and let its page say that the sweep is over."""
        if self._view is not None:
            self._view.end()
        self._view = None

    def perform(
        self,
        job: HydraJob,
        config: Config,
        get_spark: Callable[[], "SparkSession"],
        watch: Callable[[Event], None] | None = None,
        crews: "CrewHolder | None" = None,
        on_free: Callable[[], None] | None = None,
    ) -> Summary:
        """Do a job, in whichever thread. ``watch``, ``crews`` and ``on_free`` are those of a trial."""
        submission.check_places(config, job.place)
        work = Run(
            config,
            job.folder,
            get_spark,
            command=shlex.join(["python", "-m", "launch", *sys.argv[1:]]),
            versions=versions(),
            crews=crews,
            given=settings_given(job.overrides),
        )
        if watch is not None:
            work.watch = watch
        if on_free is not None:
            work.on_free = on_free
        name = f"#{job.number}" if self.side_by_side else ""
        if self._view is not None and self._view.table:
            work.display = Unseen(name)
        elif name:  # a bar for each would be too much
            work.display = Display(None, name)
        if not self._began:
            # The interpreter's own start and its imports count as well: the user waits for them.
            work.seconds["launch"] = round(time.time() - psutil.Process().create_time(), 3)
        self._began = True
        return perform(work)

    def close(self) -> None:
        """End the ranks' processes, and stop Spark."""
        self.spark.close()

    def remove_empty_folder(self) -> None:
        """Remove the folder of a command that was refused before it did anything."""
        folder = self.folder or folder_of_command()  # a sweep has only the latter before its first trial
        if folder is None or not folder.is_dir() or (self.sweep and self.sweep.rows):
            return
        if any(path.name not in BEFORE_WORK for path in folder.iterdir()):
            return
        for name in BEFORE_WORK:
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


def _link_latest(folder: Path) -> None:
    """Let ``runs/latest`` lead to a run in ``runs/<date>/``; elsewhere the user has chosen the folder."""
    runs = folder.absolute().parent.parent
    if runs.name != "runs" or not (folder / "checkpoints").is_dir():
        return
    temporary = runs / f".latest-{uuid.uuid4().hex}"
    temporary.symlink_to(os.path.relpath(folder.absolute(), runs))
    temporary.replace(runs / "latest")
