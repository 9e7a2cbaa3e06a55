"""A trial of a sweep becomes a row of the table."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.contracts.trials_table import TrialStatus
from distributed_cls.errors import UserError
from launch.trial import Launcher

TRAINED = TrainResult(3, 27, 2, loss=0.5, accuracy=0.75, learning_rate=1e-4, images_per_second=2000.0, val_accuracy=0.9)
DATASET = DatasetEntry("digits", "1", "/d", ["a", "b"], {"train": {"a": 9, "b": 9}, "val": {"a": 2, "b": 3}})


def test_a_trial_that_only_trained_has_the_val_accuracy_of_its_kept_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = Launcher()
    summary = Summary("train", {}, {}, dataset=DATASET, train=TRAINED)
    monkeypatch.setattr(launcher, "_perform", lambda composed, folder: summary)
    assert launcher._trial(OmegaConf.create(), tmp_path, ["train.seed=1"]) == 0.9
    (row,) = launcher.rows
    assert (row.val_accuracy, row.test_accuracy, row.val_images, row.test_images) == (0.9, None, 5, None)


def test_a_trial_that_failed_has_its_reason_and_no_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(composed: object, folder: Path) -> Summary:
        raise UserError("Expected a finite loss.")

    launcher = Launcher()
    monkeypatch.setattr(launcher, "_perform", fail)
    assert launcher._trial(OmegaConf.create(), tmp_path, ["model=cnn"]) is None
    (row,) = launcher.rows
    assert (row.status, row.reason, row.val_accuracy) == (TrialStatus.FAILED, "Expected a finite loss.", None)
