"""The trials of a sweep, as its folder holds them: which are done, and which number the next one gets."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from distributed_cls.contracts import trials_table
from distributed_cls.contracts.trials_table import TrialRow, TrialsTable, TrialStatus
from distributed_cls.errors import UserError
from distributed_cls.evaluation import trials

log = logging.getLogger(__name__)

# Sections and groups that do not change what a trial computes.
_NOT_OF_A_TRIAL = ("sweep", "tracking", "hydra")


def folder_of_command() -> Path | None:
    """The folder of the sweep that Hydra is in; None for a single job."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir)


def settings_of(overrides: Iterable[str]) -> dict[str, str]:
    """The settings of a trial, by which it is known again: ``{"train.seed": "1"}`` of ``["train.seed=1"]``."""
    parts = [item.partition("=") for item in overrides]
    return {key: value for key, _, value in parts if key.lstrip("+~").split(".")[0] not in _NOT_OF_A_TRIAL}


class Sweep:
    """The rows of a sweep's folder. Each change is written at once: what is there after ``kill -9`` is true.

    A trial is known by its settings, whatever its number: more values for a setting leave those that are done in place.
    """

    def __init__(self, folder: Path) -> None:
        """Read what earlier commands left in ``folder``. Raises UserError for a table that cannot be read."""
        self.folder = folder
        self.left_out = 0  # trials that did not begin within sweep.time_budget
        self._began = time.monotonic()
        self._lock = threading.RLock()  # trials side by side end in threads of their own
        self._rows = {row.trial: row for row in _read(folder)}
        self._asked: set[int] = set()  # trials that this command has asked for
        self._refit_of: dict[int, int] = {}  # of those among them that repeat another
        self._told: dict[int, list[int]] = {}  # what their sampler was told before
        ended = sum(row.ended for row in self.rows)
        if self._rows:
            log.info("Going on with the sweep in %s: %d of its %d trials have ended", folder, ended, len(self._rows))

    @property
    def seconds(self) -> float:
        """Since this command began with its trials."""
        return time.monotonic() - self._began

    @property
    def rows(self) -> list[TrialRow]:
        """All trials, in the order in which they began."""
        return [self._rows[number] for number in sorted(self._rows)]

    def ask(
        self, overrides: Iterable[str], refit_of: int | None = None, told: Sequence[int] | None = None
    ) -> TrialRow | int:
        """The row of the trial with these settings, when it has ended; otherwise the number under which it runs.

        Each row is given out once: a sampler may draw the same settings again. refit_of: the trial that it repeats.
        told: the trials of which a sampler that is told as they end has been told since the one before.
        """
        settings = settings_of(overrides)
        with self._lock:
            free = [row for row in self.rows if row.trial not in self._asked and row.refit_of == refit_of]
            known = [row for row in free if row.overrides == settings]
            number = known[0].trial if known else max([*self._rows, *self._asked], default=-1) + 1
            self._asked.add(number)
            if told is not None:
                self._told[number] = list(told)
            if refit_of is not None:
                self._refit_of[number] = refit_of
        return known[0] if known and known[0].ended else number

    def begun(self, number: int, overrides: Iterable[str], run: Path) -> TrialRow:
        """The row of a trial that begins; it is on the disk. Raises UserError when another one has its folder."""
        settings = settings_of(overrides)
        taken = next((row.trial for row in self.rows if row.run == str(run) and row.trial != number), None)
        if taken is not None:
            raise UserError(
                f"Expected a folder of its own for each trial. Received: {run} for trials {taken} and {number}. Let "
                "hydra.sweep.subdir differ, by ${hydra:job.num} or by all that is swept."
            )
        refit_of, told = self._refit_of.get(number), self._told.get(number)
        row = TrialRow(number, settings, str(run), TrialStatus.UNFINISHED, refit_of=refit_of, told=told)
        self.put(row)
        return row

    def follow(self, number: int, curve: Sequence[float]) -> None:
        """The validation accuracies of a trial so far, by which those beside it are judged; written when one ends."""
        with self._lock:
            row = self._rows.get(number)
            if row is not None and row.status is TrialStatus.UNFINISHED:
                self._rows = {**self._rows, number: dataclasses.replace(row, curve=list(curve))}

    def put(self, row: TrialRow) -> None:
        """Add the row of a trial, or put it in the place of what it was."""
        with self._lock:
            self._rows = {**self._rows, row.trial: row}  # another thread may be reading the rows as they were
            self.folder.mkdir(parents=True, exist_ok=True)
            best = trials.best(self.rows)
            trials_table.write(self.folder, TrialsTable(best.trial if best else None, trials.ranked(self.rows)))


def _read(folder: Path) -> list[TrialRow]:
    with contextlib.suppress(FileNotFoundError):
        try:
            return trials_table.read(folder).trials
        except ValueError as error:
            raise UserError(
                f"Expected the trials of a sweep in {folder / trials_table.FILE}. Received: {error}. "
                "Set hydra.sweep.dir to another folder."
            ) from error
    return []
