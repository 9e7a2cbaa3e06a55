"""Checkpoints: whole or absent, and refused when they do not fit."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.run_folder import FullDisk
from distributed_cls.errors import UserError
from distributed_cls.training import run_state
from distributed_cls.training.run_state import Saver, arrays_of, load, load_newest
from tests.patience import PATIENCE


def _variables(*shapes: tuple[int, ...], seed: int = 0) -> list[keras.Variable]:
    random = np.random.default_rng(seed)
    return [keras.Variable(random.normal(size=shape), name=f"w{index}") for index, shape in enumerate(shapes)]


def save(path: Path, variables: list[keras.Variable], position: Position) -> None:
    checkpoint.write(path, arrays_of(variables), position)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = [*_variables((3, 4), ()), keras.Variable(2**31 + 5, dtype="uint32", name="counter")]
    position = Position(epoch=3, step=120, best_epoch=2, best_accuracy=0.75, best_loss=0.5, dataset="abc")
    save(tmp_path / "new" / "last.npz", saved, position)
    blank = [keras.Variable(np.zeros(v.shape), dtype=v.dtype, name=v.name) for v in saved]
    assert load(tmp_path / "new" / "last.npz", blank) == position
    for one, other in zip(saved, blank, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.npz"]


def test_a_model_loads_without_its_optimizer(tmp_path: Path) -> None:
    save(tmp_path / "best.npz", _variables((2,), (3,), (4,)), Position())
    first = _variables((2,), (3,), seed=1)
    load(tmp_path / "best.npz", first)
    np.testing.assert_array_equal(np.asarray(first[1]), np.asarray(_variables((2,), (3,))[1]))


@pytest.mark.parametrize("shapes", [((2,), (5,)), ((2,), (3,), (1,))])
def test_another_models_checkpoint_is_refused_and_changes_nothing(
    tmp_path: Path, shapes: tuple[tuple[int, ...], ...]
) -> None:
    save(tmp_path / "last.npz", _variables((2,), (3,)), Position())
    other = _variables(*shapes, seed=1)
    with pytest.raises(UserError, match=r"Expected .*last\.npz to hold 0000\d:w\d of shape .* Received: "):
        load(tmp_path / "last.npz", other)
    for variable, before in zip(other, _variables(*shapes, seed=1), strict=True):
        np.testing.assert_array_equal(np.asarray(variable), np.asarray(before))


def test_damage_anywhere_is_noticed_or_harmless(tmp_path: Path) -> None:
    """One byte changed, or an end cut off: the values are right, or the file is refused by its name."""
    path = tmp_path / "last.npz"
    saved = _variables((16, 4))
    save(path, saved, Position(epoch=1))
    whole, refused = path.read_bytes(), 0
    changed = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(0, len(whole), 3)]
    for damaged in [*changed, *(whole[:end] for end in range(0, len(whole), 29))]:
        path.write_bytes(damaged)
        blank = _variables((16, 4), seed=1)
        try:
            load(path, blank)
        except UserError as error:
            assert "Expected" in str(error) and str(path) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(np.asarray(blank[0]), np.asarray(saved[0]))
    assert refused > len(whole) / 6


_WRITER = """
import sys
import types
from pathlib import Path

import numpy as np

sys.modules["keras"] = types.SimpleNamespace(Variable=object)  # named in annotations only; its import takes seconds
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.training.run_state import arrays_of

class Variable:
    name = "w0"
    def __array__(self, dtype=None, copy=None):
        return np.ones(50_000_000, np.float32)

checkpoint.write(Path(sys.argv[1]), arrays_of([Variable()]), Position(epoch=9))
"""


def test_a_kill_in_mid_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.npz"
    save(path, _variables((2,)), Position(epoch=1))
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
    try:
        deadline = time.monotonic() + PATIENCE
        while not any(file.stat().st_size for file in tmp_path.glob(".last.npz.*.tmp")):
            assert writer.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        writer.kill()
    assert writer.wait() == -signal.SIGKILL
    blank = _variables((2,), seed=1)
    assert load(path, blank) == Position(epoch=1)
    np.testing.assert_array_equal(np.asarray(blank[0]), np.asarray(_variables((2,))[0]))


def test_the_latest_states_are_kept_and_of_a_damaged_one_the_one_before_is_used(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=3, note=pytest.fail)
    [variable] = variables = _variables((2,))
    for step in range(5):
        variable.assign(np.full(2, step))
        judged = _variables((2,)) if step == 1 else ()
        saver.save(variables, Position(epoch=1, step=step), best=judged, statistics=np.full((2, 1), step))
        variable.assign(np.full(2, -1.0))  # what comes later is not in the file
    saver.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", "last-1.npz", "last-2.npz", "last.npz"]
    assert load(tmp_path / "best.npz", variables).step == 1
    np.testing.assert_array_equal(np.asarray(variable), np.asarray(_variables((2,))[0]))

    for newest, damage in ((4, None), (3, "last.npz"), (2, "last-1.npz")):
        if damage:
            (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:-9])
        passed_over: list[str] = []
        path, position, statistics = load_newest(tmp_path, variables, passed_over) or pytest.fail("nothing found")
        assert position.step == newest and np.asarray(variable).tolist() == [newest, newest]
        assert statistics is not None and statistics.tolist() == [[newest], [newest]]
        assert checkpoint.newest_position(tmp_path) == (path, position)
        assert len(passed_over) == 4 - newest and all("Expected a checkpoint at" in text for text in passed_over)
    (tmp_path / "last-2.npz").write_bytes(b"")
    with pytest.raises(UserError, match="last-2"):
        load_newest(tmp_path, variables, [])
    passed_over = []
    assert load_newest(tmp_path, variables, passed_over, or_none=True) is None
    assert len(passed_over) == len(checkpoint.kept(tmp_path)) > 0
    with pytest.raises(UserError, match=r"last\.npz"):
        checkpoint.newest_position(tmp_path)
    assert load_newest(tmp_path / "absent", variables, []) is None
    assert checkpoint.newest_position(tmp_path / "absent") is None


def test_a_kill_between_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    save(tmp_path / "last-1.npz", _variables((2,)), Position(step=7))
    _, position, _ = load_newest(tmp_path, _variables((2,), seed=1), []) or pytest.fail("nothing found")
    assert position.step == 7


def test_what_a_write_raised_is_raised_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    saver = Saver(tmp_path / "file", keep=2, note=pytest.fail)
    saver.save(_variables((2,)), Position())
    with pytest.raises(OSError):
        saver.save(_variables((2,)), Position())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 KiB, with 192 KiB of ballast."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems may not be mounted here")
    (disk / "ballast").write_bytes(bytes(192 * 1024))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _save_each(saver: Saver, steps: range, best: int) -> None:
    for step in steps:
        variables = [keras.Variable(np.full(6000, float(step)), name="w0")]  # 24 kB
        saver.save(variables, Position(epoch=step, step=step), best=variables if step == best else ())
    saver.wait()


def test_a_full_disk_ends_nothing_while_it_may_have_room_again(small_disk: Path) -> None:
    notes: list[str] = []
    saver = Saver(small_disk / "checkpoints", keep=1, note=notes.append)
    _save_each(saver, range(1, 2), best=1)
    assert notes == []
    (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    _save_each(saver, range(2, 5), best=3)
    [note] = notes
    assert note.startswith("The checkpoint at step 2 could not be written: the disk of ")
    with pytest.raises(FullDisk, match=r"Expected room for the files of the run\. Received: .*(No space left|quota)"):
        saver.finish()
    (small_disk / "ballast").unlink()
    _save_each(saver, range(5, 6), best=0)
    saver.finish()
    assert notes[1:] == ["The checkpoint at step 5 is written; 3 before it are lost to the full disk"]
    [variable] = variables = _variables((6000,))
    assert load(small_disk / "checkpoints" / "best.npz", variables).step == 3  # not the one that was written before
    assert np.unique(np.asarray(variable)).tolist() == [3.0]
    assert load(small_disk / "checkpoints" / "last.npz", variables).step == 5
    assert sorted(path.name for path in (small_disk / "checkpoints").iterdir()) == ["best.npz", "last.npz"]


def test_the_last_checkpoint_waits_for_room(small_disk: Path) -> None:
    notes: list[str] = []
    saver = Saver(small_disk / "checkpoints", keep=1, note=notes.append)
    (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    _save_each(saver, range(1, 3), best=2)
    attempts = iter(range(9))

    def make_room_at_the_third() -> None:
        if next(attempts) == 2:
            (small_disk / "ballast").unlink()

    saver.finish(make_room_at_the_third)
    assert next(attempts) == 3
    assert notes[1:] == ["The checkpoint at step 2 is written; the one before it is lost to the full disk"]
    variables = _variables((6000,))
    assert [load(path, variables).step for path in checkpoint.kept(small_disk / "checkpoints")] == [2]
    assert load(small_disk / "checkpoints" / "best.npz", variables).step == 2


def test_a_disk_that_stays_full_ends_the_run(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_state, "_LONGEST_FULL_SECONDS", 0.0)
    (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    saver = Saver(small_disk / "checkpoints", keep=1, note=lambda text: None)
    with pytest.raises(FullDisk):
        _save_each(saver, range(1, 4), best=0)
    saver = Saver(small_disk / "checkpoints", keep=1, note=lambda text: None)
    _save_each(saver, range(1, 2), best=0)
    with pytest.raises(FullDisk):
        saver.finish(lambda: None)


def test_sums_within_an_epoch_go_to_their_ranks_or_to_the_first() -> None:
    position = Position(sums=[[1.5, 2.0], [0.25, 3.0]])
    assert [position.own_sums(rank, 2).tolist() for rank in range(2)] == position.sums
    assert [position.own_sums(rank, 3).tolist() for rank in range(3)] == [[1.75, 5.0], [0, 0], [0, 0]]
    assert Position().own_sums(0, 2).tolist() == [0, 0]


def test_better_is_by_accuracy_then_by_loss() -> None:
    best = Position(best_accuracy=0.5, best_loss=1.0)
    assert best.is_better(0.6, 2.0)
    assert best.is_better(0.5, 0.9)
    assert not best.is_better(0.5, 1.0)
    assert not best.is_better(0.4, 0.1)
    assert Position().is_better(0.0, 100.0)


def test_better_can_be_by_loss_then_by_accuracy() -> None:
    best = Position(best_accuracy=0.5, best_loss=1.0)
    assert best.is_better(0.4, 0.9, "loss")
    assert best.is_better(0.6, 1.0, "loss")
    assert not best.is_better(0.5, 1.0, "loss")
    assert not best.is_better(0.9, 1.1, "loss")
    assert Position().is_better(0.0, 100.0, "loss")
