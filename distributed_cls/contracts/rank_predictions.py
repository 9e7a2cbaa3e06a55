"""What a rank predicted for its images of a split: a file of each rank in the run folder, which the driver gathers.

``predictions/<split>-<rank>-of-<world size>.npz`` holds int64 ``ranges`` [r, 3] (shard, first record, record after the
last), int64 ``classes`` and float32 ``probabilities`` [examples, ≤ 5 or all], most probable first, in the order of the
ranges.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distributed_cls import storage
from distributed_cls.contracts.run_folder import full_disk_named
from distributed_cls.errors import RunError

SCHEMA_VERSION = 2  # version 1 had no number, no fingerprint, and ``shares`` for probabilities
FOLDER = "predictions"


@dataclass(frozen=True)
class RankPredictions:
    """The predictions of ``rank`` of ``world_size`` for its part of ``split`` of the data set ``fingerprint``."""

    split: str
    rank: int
    world_size: int
    fingerprint: str
    ranges: NDArray[np.int64]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def _path(run_folder: Path, split: str, rank: int, world_size: int) -> Path:
    return run_folder / FOLDER / f"{split}-{rank:05d}-of-{world_size:05d}.npz"


def write(run_folder: Path, predictions: RankPredictions) -> None:
    """Write a rank's file, whole or not at all. Raises UserError when the disk is full."""
    target = _path(run_folder, predictions.split, predictions.rank, predictions.world_size)
    about = {"schema_version": SCHEMA_VERSION, "fingerprint": predictions.fingerprint}
    with full_disk_named(target):
        target.parent.mkdir(exist_ok=True)
        with storage.writing(target) as stream:
            np.savez(
                stream,
                about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                ranges=predictions.ranges,
                classes=predictions.classes,
                probabilities=predictions.probabilities,
            )


def read(run_folder: Path, split: str, rank: int, world_size: int, fingerprint: str) -> RankPredictions:
    """A rank's file. Raises RunError: missing, damaged, or of another data set (an earlier evaluation left it)."""
    path = _path(run_folder, split, rank, world_size)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
        about = json.loads(arrays["about"].tobytes())
        made = RankPredictions(
            split,
            rank,
            world_size,
            str(about["fingerprint"]),
            arrays["ranges"].reshape(-1, 3),
            arrays["classes"],
            arrays["probabilities"],
        )
    except Exception as error:  # a damaged zip file raises whatever its changed bytes ask for
        raise RunError(f"Expected the predictions of rank {rank} at {path}. Received: {error!r}.") from error
    if about.get("schema_version") != SCHEMA_VERSION or made.fingerprint != fingerprint:
        raise RunError(f"Expected predictions for data set {fingerprint} at {path}. Received: {about}.")
    return made
