"""What is refused before Spark or the ranks start."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distributed_cls import job_checks
from distributed_cls.config import ClusterConfig, Config, JobConfig, TrainConfig
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.errors import UserError
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from tests.shards import records, write_dataset

FIRST = TrainResult(5, 45, 4, 0.5, 0.75, 0.0, 100.0, 0.8, 0.6)


def _begun(folder: Path, config: Config, epoch: int = 2) -> None:
    position = Position(epoch=epoch, settings=checkpoint.settings_of(config))
    checkpoint.write(folder / "checkpoints" / "last.npz", {"w": np.zeros(1)}, position)


def _with(config: Config, **train: object) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **train))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 0.5}, {"seed": 7}, {"batch_size": 64}, {"learning_rate": 0.5, "epochs": 9}]
)
def test_a_run_goes_on_under_its_own_settings_only(tmp_path: Path, changed: dict[str, object]) -> None:
    config = Config()
    _begun(tmp_path, config)
    job_checks.check_resume(config, tmp_path)
    name, value = next(iter(changed.items()))
    with pytest.raises(UserError) as raised:
        job_checks.check_resume(_with(config, **changed), tmp_path)
    assert f"train.{name}={getattr(config.train, name)}. Received: train.{name}={value}." in str(raised.value)


def test_more_epochs_go_on_and_fewer_than_are_done_do_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(train=TrainConfig(epochs=5))
    _begun(tmp_path, config, epoch=5)
    with caplog.at_level("INFO"):
        job_checks.check_resume(_with(config, epochs=9), tmp_path)
    assert "Going on after epoch 5" in caplog.text and "train.epochs=9 was 5" in caplog.text
    with pytest.raises(UserError, match=r"train\.epochs of at least 5.*Received: train\.epochs=3"):
        job_checks.check_resume(_with(config, epochs=3), tmp_path)


def test_a_run_in_its_second_phase_has_left_the_first_one_behind(tmp_path: Path) -> None:
    config = Config(model=CnnConfig(weights="runs/earlier"), train=TrainConfig(epochs=5, fine_tune_epochs=4))
    position = Position(epoch=3, settings=checkpoint.settings_of(config), first_phase=FIRST)
    checkpoint.write(tmp_path / "checkpoints" / "last.npz", {"w": np.zeros(1)}, position)
    job_checks.check_resume(config, tmp_path)
    job_checks.check_resume(_with(config, fine_tune_epochs=9), tmp_path)
    with pytest.raises(UserError, match=r"fine_tune_epochs of at least 3.*Received: train\.fine_tune_epochs=2"):
        job_checks.check_resume(_with(config, fine_tune_epochs=2), tmp_path)
    with pytest.raises(UserError, match=r"fine_tune_epochs of at least 3.*Received: train\.fine_tune_epochs=0"):
        job_checks.check_resume(_with(config, fine_tune_epochs=0), tmp_path)
    with pytest.raises(UserError, match=r"train\.epochs=5: the run in .* second phase.*Received: train\.epochs=7"):
        job_checks.check_resume(_with(config, epochs=7), tmp_path)


def test_a_second_phase_needs_a_frozen_backbone() -> None:
    train = TrainConfig(fine_tune_epochs=2)
    Config(model=CnnConfig(weights="runs/earlier"), train=train)
    for model in (CnnConfig(), CnnConfig(weights="runs/earlier", freeze_backbone=False), DenseConfig()):
        with pytest.raises(UserError, match=r"fine_tune_epochs to be 0 without a frozen backbone"):
            Config(model=model, train=train)


def test_a_run_goes_on_with_its_own_data_set_only(tmp_path: Path) -> None:
    """The ranks would refuse it as well, a minute later."""
    made = write_dataset(tmp_path / "d", {split: [records(3)] for split in ("train", "val", "test")})
    dataset = Dataset(str(tmp_path / "d"), made, reused=True)
    job_checks.check_resumed_data(tmp_path, dataset)
    for fingerprint, refused in ((made.fingerprint, False), ("9f3c12ab", True)):
        position = Position(epoch=2, dataset=fingerprint)
        checkpoint.write(tmp_path / "checkpoints" / "last.npz", {"w": np.zeros(1)}, position)
        if refused:
            with pytest.raises(UserError, match=rf"data set 9f3c12ab.*Received: {made.fingerprint} \("):
                job_checks.check_resumed_data(tmp_path, dataset)
        else:
            job_checks.check_resumed_data(tmp_path, dataset)


def test_a_checkpoint_that_knows_no_settings_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.write(tmp_path / "checkpoints" / "last.npz", {"w": np.zeros(1)}, Position(epoch=1))
    job_checks.check_resume(Config(), tmp_path)
    assert "An earlier release made its checkpoint" in caplog.text


def test_an_empty_run_folder_has_nothing_to_compare(tmp_path: Path) -> None:
    job_checks.check_resume(Config(), tmp_path)


def test_every_rank_needs_a_train_image(tmp_path: Path) -> None:
    parts = {"train": [records(3)], "val": [records(3)], "test": [records(3)]}
    dataset = Dataset(str(tmp_path / "d"), write_dataset(tmp_path / "d", parts), reused=True)

    def config(workers: int) -> Config:
        return Config(cluster=ClusterConfig(workers=workers), train=TrainConfig(batch_size=12))

    job_checks.check_enough_images(config(3), dataset)
    with pytest.raises(UserError, match=r"3 train images for cluster\.workers=4\. Set cluster\.workers=3"):
        job_checks.check_enough_images(config(4), dataset)


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"run\.dir to be a folder that can be written\. Received: .*file/run \("):
        job_checks.check_run_folder(Config(), tmp_path / "file" / "run")
    job_checks.check_run_folder(Config(), tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []


@pytest.mark.parametrize("job", ["verify", "suspects", "prepare"])
def test_the_folder_of_a_training_is_no_other_jobs(tmp_path: Path, job: str) -> None:
    config = Config(job=JobConfig(name=job))
    job_checks.check_run_folder(config, tmp_path)
    checkpoint.write(tmp_path / "checkpoints" / checkpoint.LAST, {}, Position())
    with pytest.raises(
        UserError, match=rf"a run folder of its own for job={job}\. Received: .*, which a training is in"
    ):
        job_checks.check_run_folder(config, tmp_path)
    for same in job_checks.TRAINING:
        job_checks.check_run_folder(Config(job=JobConfig(name=same)), tmp_path)
