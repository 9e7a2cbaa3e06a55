"""A trial of a sweep becomes a row of the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from distributed_cls.config import Config
from distributed_cls.contracts.events import EpochEnded, Event, Metrics
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import RunError, UserError
from launch import schema
from launch.composition import compose
from launch.shared_spark import SharedSpark
from launch.sweep_state import Sweep
from launch.sweep_trial import Trial
from launch.trial import HydraJob, Launcher

Watch = Callable[[Event], None]
TRAINED = TrainResult(3, 27, 2, loss=0.5, accuracy=0.75, learning_rate=1e-4, images_per_second=2000.0, val_accuracy=0.9)
DATASET = DatasetEntry("digits", "1", "/d", ["a", "b"], {"train": {"a": 9, "b": 9}, "val": {"a": 2, "b": 3}})


def trial(launcher: Launcher, number: int, composed: DictConfig, folder: Path, *overrides: str) -> Trial:
    """One that has begun."""
    job = HydraJob(composed, folder / str(number), overrides, {"hydra.sweep.dir": str(folder)}, folder, number)
    return launcher.trial(job)


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """What Hydra gives for a command without settings."""
    schema.register()
    return compose([])[0]


def test_a_trial_that_only_trained_has_the_val_accuracy_of_its_kept_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: DictConfig
) -> None:
    launcher = Launcher()
    summary = Summary("train", {}, {}, dataset=DATASET, train=TRAINED)
    monkeypatch.setattr(launcher, "perform", lambda *_: summary)
    sweep = launcher.sweep_in(tmp_path)
    assert trial(launcher, 0, composed, tmp_path, "train.seed=1").run() == 0.9
    (row,) = sweep.rows
    assert (row.val_accuracy, row.test_accuracy, row.val_images, row.test_images) == (0.9, None, 5, None)


def test_a_trial_that_failed_has_its_reason_and_no_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: DictConfig
) -> None:
    def fail(*_: object) -> Summary:
        raise UserError("Expected a finite loss.")

    launcher = Launcher()
    monkeypatch.setattr(launcher, "perform", fail)
    sweep = launcher.sweep_in(tmp_path)
    assert trial(launcher, 0, composed, tmp_path, "model=cnn").run() is None
    (row,) = sweep.rows
    assert (row.status, row.reason, row.val_accuracy) == (TrialStatus.FAILED, "Expected a finite loss.", None)


def test_a_trial_that_was_ended_has_its_reason_and_its_best_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: DictConfig
) -> None:
    def report(job: HydraJob, config: Config, get_spark: object, watch: Watch, *_: object) -> Summary:
        for epoch, accuracy in enumerate((0.5, 0.25), start=1):
            watch(EpochEnded(split="val", epoch=epoch, step=epoch, values=Metrics(1.0, accuracy)))
        raise AssertionError("the second rung ends it")

    launcher = Launcher()
    monkeypatch.setattr(launcher, "perform", report)
    sweep = launcher.sweep_in(tmp_path)
    sweep.put(TrialRow(0, {}, "", TrialStatus.DONE, 0.75, curve=[0.5, 0.75, 0.75]))
    halving = OmegaConf.merge(composed, {"sweep": {"stop": "asha", "reduction": 2}})
    assert trial(launcher, 1, halving, tmp_path, "train.seed=1").run() == 0.5
    (_, row) = sweep.rows
    assert (row.status, row.val_accuracy, row.curve) == (TrialStatus.STOPPED, 0.5, [0.5, 0.25])
    assert row.reason is not None and "sweep.stop=asha" in row.reason and launcher.errors == []
    assert Sweep(tmp_path).rows == sweep.rows


def test_a_trial_under_which_spark_was_lost_goes_on_in_another_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: DictConfig
) -> None:
    starts = []

    def lose_spark_once(job: HydraJob, config: Config, get_spark: Callable[[], object], *_: object) -> Summary:
        starts.append(launcher.spark.session)
        if len(starts) == 1:
            launcher.spark.session = _LostSession()  # type: ignore[assignment]
            get_spark()
            raise RunError("The barrier stage failed.")
        return Summary("train", {}, {}, dataset=DATASET, train=TRAINED)

    launcher = Launcher()
    monkeypatch.setattr(launcher, "perform", lose_spark_once)
    sweep = launcher.sweep_in(tmp_path)
    assert trial(launcher, 0, composed, tmp_path, "train.seed=1").run() == 0.9
    assert starts == [None, None] and launcher.errors == []
    starts.clear()
    never = OmegaConf.merge(composed, {"sweep": {"retries": 0}})
    assert trial(launcher, 1, never, tmp_path, "train.seed=2").run() is None
    assert [row.status.value for row in sweep.rows] == ["done", "failed"]
    assert launcher.spark.session is None  # the trials after it get another


def test_a_session_that_was_lost_under_several_trials_is_given_up_once() -> None:
    spark = SharedSpark()
    lost: Any = _LostSession()
    spark.session = lost
    assert spark.let_go_of_lost(lost) and spark.session is None
    another: Any = _LostSession()
    another.lost = False
    spark.session = another
    assert spark.let_go_of_lost(lost) and spark.session is another  # each goes on in the one that is there now
    assert not spark.let_go_of_lost(another) and not spark.let_go_of_lost(None)


class _LostSession:
    """Stands for a Spark whose JVM has ended."""

    lost = True
    running = None
    spark = "lost"

    def fits(self, cluster: object) -> bool:
        return True

    def stop(self) -> None:
        """Nothing is left to stop."""
