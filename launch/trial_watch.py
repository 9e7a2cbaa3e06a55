"""Follows a trial of a sweep by the events of its ranks, and ends it when the settings of the sweep say so."""

import time
from collections.abc import Sequence
from pathlib import Path

from distributed_cls.config import Config
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import EpochEnded, Event, TrainProgressed
from distributed_cls.contracts.trials_table import TrialStatus
from distributed_cls.errors import EndRequested
from distributed_cls.evaluation.history import read_history
from distributed_cls.job_checks import TRAINING
from launch import stopping
from launch.sweep_state import Sweep


class TrialWatch:
    """Sees every event of a trial. Raises EndRequested, once, when it is to end; ``status`` is then what it becomes."""

    def __init__(self, config: Config, sweep: Sweep, number: int, folder: Path) -> None:
        self._config, self._sweep, self._number = config, sweep, number
        self._began = time.monotonic()
        self._epochs = config.train.epochs + config.train.fine_tune_epochs
        self._accuracies = _accuracies_before(folder)  # of the val split, by epoch
        self._judged = False
        self._asked_to_end = self._interrupted = False
        self.status = TrialStatus.STOPPED

    @property
    def curve(self) -> list[float]:
        """The validation accuracy at the end of each epoch so far."""
        latest, found = 0.0, []
        for epoch in range(1, max(self._accuracies, default=0) + 1):
            # The driver may have been killed between an epoch's checkpoint and its event.
            latest = self._accuracies.get(epoch, latest)
            found.append(latest)
        return found

    def __call__(self, event: Event) -> None:
        if self._asked_to_end:  # what the ranks still report while they end
            return
        if self._interrupted:
            self._end(TrialStatus.UNFINISHED, "interrupted")
        if isinstance(event, TrainProgressed) and self._config.train.time_budget is not None:
            self._epochs = event.epochs  # which the ranks have measured
        if isinstance(event, EpochEnded) and event.split == "val" and self._config.job.name in TRAINING:
            self._accuracies[event.epoch] = event.values.accuracy
            self._judged = False
            self._sweep.follow(self._number, self.curve)
        if not self._judged:  # also what a killed driver saw last and did not come to judge
            self._judge()
        self._check_time()

    def interrupt(self) -> None:
        """End the trial at its next event; another thread may ask for it."""
        self._interrupted = True

    def _judge(self) -> None:
        self._judged, curve = True, self.curve
        if curve and len(curve) < self._epochs:
            others = [row for row in self._sweep.rows if row.trial != self._number and row.refit_of is None]
            began: list[Sequence[float]] = [row.curve for row in others if not row.failed]
            done: list[Sequence[float]] = [row.curve for row in others if row.done]
            reason = stopping.reason_to_stop(curve, began, done, self._config.sweep)
            if reason:
                self._end(TrialStatus.STOPPED, reason)

    def _check_time(self) -> None:
        settings = self._config.sweep
        if settings.time_budget and self._sweep.seconds >= settings.time_budget:
            # It goes on when its sweep does.
            self._end(TrialStatus.UNFINISHED, f"sweep.time_budget={settings.time_budget:g} s is used up")
        if settings.trial_timeout and time.monotonic() - self._began >= settings.trial_timeout:
            self._end(TrialStatus.STOPPED, f"sweep.trial_timeout={settings.trial_timeout:g} s is over")

    def _end(self, status: TrialStatus, reason: str) -> None:
        self._asked_to_end, self.status = True, status
        raise EndRequested(reason)


def _accuracies_before(folder: Path) -> dict[int, float]:
    """Of the epochs after which the run in ``folder`` goes on. Raises UserError for a damaged checkpoint."""
    found = checkpoint.newest_position(folder / "checkpoints")
    if found is None:
        return {}
    position = found[1]
    finished = position.epoch + (position.first_phase.epochs if position.first_phase else 0)
    curve = read_history(folder / "metrics.jsonl").per_epoch("val", "accuracy")
    return {int(epoch): accuracy for epoch, accuracy in curve if epoch <= finished}
