"""A trial is ended by what its ranks report, and by the clock."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distributed_cls.config import Config, JobConfig, SweepConfig, TrainConfig
from distributed_cls.contracts import checkpoint, events
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.events import EpochEnded, Heartbeat, Metrics
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import EndRequested
from launch.sweep_state import Sweep
from launch.trial_watch import TrialWatch


def config(epochs: int = 4, **sweep: object) -> Config:
    return Config(train=TrainConfig(epochs=epochs), sweep=SweepConfig(**sweep))  # type: ignore[arg-type]


def epoch(number: int, accuracy: float, split: str = "val") -> EpochEnded:
    return EpochEnded(split=split, epoch=number, step=number, values=Metrics(1.0, accuracy))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Of one trial, which reached 0.9 after its first epoch."""
    sweep = Sweep(tmp_path)
    sweep.put(TrialRow(0, {}, "", TrialStatus.DONE, 0.9, curve=[0.9, 0.5, 0.5, 0.5]))
    return sweep


def test_a_trial_below_the_rung_ends_once_and_one_above_it_goes_on(sweep: Sweep, tmp_path: Path) -> None:
    watch = TrialWatch(config(stop="asha", reduction=2), sweep, 1, tmp_path / "1")
    watch(epoch(1, 0.1, "train"))
    watch(epoch(1, 0.95))
    with pytest.raises(EndRequested, match=r"sweep\.stop=asha: accuracy 0\.4"):
        watch(epoch(2, 0.4))
    watch(epoch(3, 0.3))  # while its ranks end
    assert watch.status is TrialStatus.STOPPED and watch.curve == [0.95, 0.4]


def test_a_trial_is_judged_by_those_that_run_beside_it_as_well(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    watches = []
    for number in range(2):
        sweep.begun(number, [f"train.seed={number}"], tmp_path / str(number))
        watches.append(TrialWatch(config(stop="asha", reduction=2), sweep, number, tmp_path / str(number)))
    watches[0](epoch(1, 0.9))
    with pytest.raises(EndRequested, match=r"best 1 of 2"):
        watches[1](epoch(1, 0.8))
    watches[0](epoch(2, 0.5))  # nobody else has come so far
    assert [row.curve for row in sweep.rows] == [[0.9, 0.5], [0.8]]
    assert [row.curve for row in Sweep(tmp_path).rows] == [[], []]  # written when a trial begins or ends


def test_a_trial_that_is_interrupted_ends_at_its_next_event_and_is_to_go_on(sweep: Sweep, tmp_path: Path) -> None:
    watch = TrialWatch(config(), sweep, 1, tmp_path / "1")
    watch.interrupt()
    with pytest.raises(EndRequested, match="interrupted"):
        watch(Heartbeat(step=1))
    watch(Heartbeat(step=2))
    assert watch.status is TrialStatus.UNFINISHED


def test_a_repetition_of_the_best_trial_is_no_rival(sweep: Sweep, tmp_path: Path) -> None:
    sweep.put(TrialRow(1, {}, "", TrialStatus.DONE, 0.99, curve=[0.99, 0.99], refit_of=0))
    watch = TrialWatch(config(stop="asha", reduction=2), sweep, 2, tmp_path / "2")
    watch(epoch(1, 0.95))
    assert watch.curve == [0.95]


def test_the_last_epoch_ends_by_itself_and_other_jobs_have_no_rungs(sweep: Sweep, tmp_path: Path) -> None:
    TrialWatch(config(1, stop="asha"), sweep, 1, tmp_path / "1")(epoch(1, 0.1))
    folds = dataclasses.replace(config(stop="asha"), job=JobConfig(name="suspects"))
    watch = TrialWatch(folds, sweep, 1, tmp_path / "1")
    watch(epoch(1, 0.1))
    assert watch.curve == []


@pytest.mark.parametrize(("setting", "becomes"), [("trial_timeout", "stopped"), ("time_budget", "unfinished")])
def test_the_clock_ends_a_trial_that_reports_nothing_but_that_it_lives(
    sweep: Sweep, tmp_path: Path, setting: str, becomes: str
) -> None:
    patient = TrialWatch(config(**{setting: 1e6}), sweep, 1, tmp_path / "1")
    patient(Heartbeat(step=0))
    watch = TrialWatch(config(**{setting: 1e-9}), sweep, 1, tmp_path / "1")
    with pytest.raises(EndRequested, match=rf"sweep\.{setting}=1e-09 s"):
        watch(Heartbeat(step=0))
    assert watch.status.value == becomes


def test_a_resumed_trial_is_judged_by_the_epochs_before_its_checkpoint(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    checkpoint.write(folder / "checkpoints" / "last.npz", {"w": np.zeros(1)}, Position(epoch=3))
    told = [epoch(1, 0.95), epoch(3, 0.3), epoch(4, 0.2)]  # one was lost, one is newer than the checkpoint
    (folder / "metrics.jsonl").write_text("".join(events.dumps(event) + "\n" for event in told))
    watch = TrialWatch(config(9, stop="asha", reduction=3), sweep, 1, folder)
    assert watch.curve == [0.95, 0.95, 0.3]
    with pytest.raises(EndRequested, match="after epoch 3"):  # the driver was killed before it had said so
        watch(Heartbeat(step=0))
