"""Checkpoints: whole or absent, and refused when they do not fit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from distributed_cls.contracts.checkpoint import Position
from distributed_cls.errors import UserError
from distributed_cls.training.run_state import load, save
from tests.patience import PATIENCE


def _variables(*shapes: tuple[int, ...], seed: int = 0) -> list[keras.Variable]:
    random = np.random.default_rng(seed)
    return [keras.Variable(random.normal(size=shape), name=f"w{index}") for index, shape in enumerate(shapes)]


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
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.training.run_state import save

class Variable:
    name = "w0"
    def __array__(self, dtype=None, copy=None):
        return np.ones(50_000_000, np.float32)

save(Path(sys.argv[1]), [Variable()], Position(epoch=9))
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


def test_better_is_by_accuracy_then_by_loss() -> None:
    best = Position(best_accuracy=0.5, best_loss=1.0)
    assert best.is_better(0.6, 2.0)
    assert best.is_better(0.5, 0.9)
    assert not best.is_better(0.5, 1.0)
    assert not best.is_better(0.4, 0.1)
    assert Position().is_better(0.0, 100.0)
