"""Checkpoints in a bucket: copied beside training, the last ones kept, brought back to an empty run folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from distributed_cls import job_checks, storage
from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts import checkpoint, checkpoint_store
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.errors import UserError
from distributed_cls.training.checkpoint_copies import CheckpointCopies
from distributed_cls.training.run_state import Saver, load
from tests.unit.storage.moto_bucket import NAME, URL, bucket


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    with bucket() as client:
        yield client


@pytest.fixture
def url(store: Any, tmp_path: Path) -> str:
    return f"{URL}/{tmp_path.name}"


def _save(saver: Saver, step: int, best: bool = False, copied: bool = True) -> None:
    variables = [keras.Variable(np.full(5, float(step)), name="w")]
    position = Position(epoch=step, step=step, best_epoch=2, settings=checkpoint.settings_of(Config()))
    saver.save(variables, position, best=variables if best else ())
    saver.wait()
    if copied:
        saver.finish()


def _saver(folder: Path, url: str, notes: list[str]) -> Saver:
    return Saver(folder, 2, notes.append, CheckpointCopies(folder, url, 2, notes.append))


def test_an_empty_run_folder_goes_on_from_the_store(url: str, tmp_path: Path, store: Any) -> None:
    notes: list[str] = []
    saver = _saver(tmp_path / "first", url, notes)
    for step in range(1, 5):
        _save(saver, step, best=step == 2)
    assert notes == []
    assert storage.names(url) == ["best.npz", "step-000000000003.npz", "step-000000000004.npz"]
    config = Config(train=TrainConfig(checkpoint_dir=url))
    new = tmp_path / "new"
    job_checks.bring_back_checkpoints(config, new)
    assert sorted(path.name for path in (new / "checkpoints").iterdir()) == ["best.npz", "last.npz"]
    for name in ("best.npz", "last.npz"):
        assert (new / "checkpoints" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    job_checks.check_resume(config, new)  # the same settings, wherever the copies go
    before = (new / "checkpoints" / "last.npz").stat().st_mtime_ns
    job_checks.bring_back_checkpoints(config, new)
    assert (new / "checkpoints" / "last.npz").stat().st_mtime_ns == before  # it has checkpoints: they count


def test_frozen_arrays_are_copied_once_and_brought_back(url: str, tmp_path: Path, store: Any) -> None:
    frozen = keras.Variable(np.arange(6.0), name="kernel")
    trained = keras.Variable(np.zeros(2), name="bias")
    notes: list[str] = []
    folder = tmp_path / "first"
    saver = Saver(folder, 2, notes.append, CheckpointCopies(folder, url, 2, notes.append), [frozen])
    for step in (1, 2):
        trained.assign(np.full(2, float(step)))
        saver.save([frozen, trained], Position(epoch=step, step=step, best_epoch=1), best=[frozen] if step == 1 else ())
        saver.finish()
    [name] = [path.name for path in folder.glob("frozen-*.npz")]
    assert notes == []
    assert storage.names(url) == ["best.npz", name, "step-000000000001.npz", "step-000000000002.npz"]
    new = tmp_path / "new"
    assert checkpoint_store.bring_back(url, new, []) == 2
    frozen.assign(np.zeros(6))
    assert load(new / "last.npz", [frozen, trained]).step == 2
    assert np.asarray(frozen).tolist() == list(range(6)) and np.asarray(trained).tolist() == [2.0, 2.0]
    storage.remove_file(f"{url}/{name}")
    with pytest.raises(UserError, match=rf"Expected a checkpoint at .*/{name}\. Received: no such file"):
        checkpoint_store.bring_back(url, tmp_path / "other", [])


def test_a_damaged_copy_is_passed_over(url: str, tmp_path: Path, store: Any, caplog: pytest.LogCaptureFixture) -> None:
    saver = _saver(tmp_path / "first", url, [])
    for step in (2, 3):
        _save(saver, step, best=step == 2)
    newest = f"{url}/step-000000000003.npz"
    storage.write_bytes(newest, storage.read_bytes(newest)[:-9])
    config = Config(train=TrainConfig(checkpoint_dir=url))
    job_checks.bring_back_checkpoints(config, tmp_path / "new")
    variables = [keras.Variable(np.zeros(5), name="w")]
    assert load(tmp_path / "new" / "checkpoints" / "last.npz", variables).step == 2
    assert np.asarray(variables[0]).tolist() == [2.0] * 5
    assert f"A damaged checkpoint is passed over. Expected a checkpoint at {newest}." in caplog.text
    storage.remove_file(f"{url}/best.npz")
    with pytest.raises(UserError, match=r"Expected a checkpoint at .*/best\.npz\. Received: no such file"):
        checkpoint_store.bring_back(url, tmp_path / "other", [])
    assert list((tmp_path / "other").iterdir()) == []


def test_a_store_that_fails_is_told_once_and_tried_again(url: str, tmp_path: Path, store: Any) -> None:
    notes: list[str] = []
    missing = url.replace(NAME, "no-such-bucket")
    saver = _saver(tmp_path / "first", missing, notes)
    for step in range(1, 4):
        _save(saver, step, copied=False)
    saver.finish()
    assert notes[0].startswith(f"A checkpoint could not be copied to {missing} (")
    assert notes[1:] == [f"{missing} does not have the last checkpoint of this run, which is in {tmp_path / 'first'}"]
    store.create_bucket(Bucket="no-such-bucket")
    _save(saver, 4)
    assert notes[2].startswith(f"Checkpoints are copied to {missing} again, after ")
    assert checkpoint_store.steps(missing) == [4]


def test_the_steps_of_a_second_phase_follow_those_of_the_first(url: str, tmp_path: Path, store: Any) -> None:
    first = TrainResult(2, 40, 2, loss=0.5, accuracy=0.5, learning_rate=0.1, images_per_second=1.0)
    for position in (Position(step=40), Position(step=0, first_phase=first), Position(step=3, first_phase=first)):
        checkpoint.write(tmp_path / "last.npz", {"w": np.zeros(3)}, position)
        checkpoint_store.copy_newest(tmp_path, url, keep=2)
    assert checkpoint_store.steps(url) == [40, 43]
    assert checkpoint_store.bring_back(url, tmp_path / "new", []) == 43


@pytest.mark.parametrize("received", ["copies", "s3://no-such-bucket-here/run"])
def test_a_place_that_cannot_be_written_is_refused(received: str, store: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"Expected train\.checkpoint_dir to be .* Received: .*{received}"):
        job_checks.bring_back_checkpoints(Config(train=TrainConfig(checkpoint_dir=received)), tmp_path)
