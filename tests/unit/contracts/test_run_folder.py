"""A full disk is one line for the user, whoever writes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distributed_cls import storage
from distributed_cls.contracts import checkpoint, rank_predictions
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.rank_predictions import RankPredictions
from distributed_cls.contracts.run_folder import full_disk_named
from distributed_cls.errors import UserError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_other_errors_are_not_touched(number: int, tmp_path: Path) -> None:
    named = rf"room for the files of the run\. Received: /run/x \({os.strerror(number)}\)\. Free some space"
    with pytest.raises(UserError, match=named), full_disk_named(tmp_path):
        raise OSError(number, os.strerror(number), "/run/x")
    with pytest.raises(FileNotFoundError), full_disk_named(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "x")


def _write_checkpoint(folder: Path) -> None:
    checkpoint.write(folder / "checkpoints" / "last.npz", {"w": np.zeros(9)}, Position())


def _write_predictions(folder: Path) -> None:
    classes, probabilities = np.array([[1]]), np.array([[0.9]], np.float32)
    rank_predictions.write(folder, RankPredictions("val", 0, 1, "1", np.array([[0, 0, 1]]), classes, probabilities))


@pytest.mark.parametrize("write", [_write_checkpoint, _write_predictions])
def test_what_a_rank_writes_is_refused_and_not_tried_again(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UserError in a rank is what the supervisor refuses with exit code 2, without another attempt."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.npz")}
    monkeypatch.setattr(storage.files.os, "fsync", fsync)
    with pytest.raises(UserError, match=r"room for the files of the run\. Received: .*\.npz \(No space left"):
        write(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept  # the last one is safe
