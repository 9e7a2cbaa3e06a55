"""The checkpoint file: arrays by name and where the run stood, in one NumPy container that is whole or absent.

NumPy's zip container checks each array's CRC on reading, and opens anywhere, without TensorFlow.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import codec
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.run_folder import full_disk_named
from distributed_cls.errors import UserError

SCHEMA_VERSION = 2  # version 1 knew neither the settings nor typed metrics
_POSITION = "position.json"

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Position:
    """Where a run stands at the end of an epoch."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps
    best_epoch: int = 0
    best_accuracy: float = -1.0  # on the validation split; -1 before the first validation
    best_loss: float | None = None
    dataset: str = ""  # fingerprint
    values: Metrics | None = None  # of the train split in the last epoch
    settings: dict[str, Json] = field(default_factory=dict)  # that decide what the run computes, by dotted name

    def is_better(self, accuracy: float, loss: float) -> bool:
        """Whether a validation beats the best so far: by accuracy, by loss between equals."""
        best_loss = float("inf") if self.best_loss is None else self.best_loss
        return (accuracy, -loss) > (self.best_accuracy, -best_loss)


def settings_of(config: Config) -> dict[str, Json]:
    """The settings of a run that decide what it computes, by dotted name; its data set has a fingerprint."""
    settings: dict[str, Json] = {"cluster.workers": config.cluster.workers}
    for section, values in (("model", codec.to_plain(config.model)), ("train", codec.to_plain(config.train))):
        settings |= {f"{section}.{name}": value for name, value in values.items() if name != "steps_per_call"}
    return settings


def write(path: Path, arrays: Mapping[str, Any], position: Position) -> None:
    """Write ``arrays`` and ``position`` to the local file ``path``, whole or not at all.

    Raises UserError when the disk is full: another attempt would train the same epochs and meet the same end.
    """
    text = codec.dumps({"schema_version": SCHEMA_VERSION, **codec.to_plain(position)})
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.writing(path) as stream:
            np.savez(stream, **arrays, **{_POSITION: np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]


def read(path: Path) -> tuple[Arrays, Position]:
    """The arrays and the position of a checkpoint. Raises UserError: damaged, or of a newer version."""
    return _read(path, with_arrays=True)


def read_position(path: Path) -> Position:
    """Where the run of a checkpoint stood, without reading its arrays. Raises UserError as ``read`` does."""
    return _read(path, with_arrays=False)[1]


def _read(path: Path, with_arrays: bool) -> tuple[Arrays, Position]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if with_arrays and name != _POSITION}
            content = json.loads(stored[_POSITION].tobytes())
        version = content.pop("schema_version")
        position = _position(content, version) if version in (1, SCHEMA_VERSION) else None
    except Exception as error:  # a damaged zip file raises whatever its changed bytes ask for
        raise UserError(
            f"Expected a checkpoint at {path}. Received: {type(error).__name__}: {error}. "
            "Remove the file to start over, or restore it."
        ) from error
    if position is None:
        raise UserError(
            f"Expected a checkpoint of schema version {SCHEMA_VERSION} at {path}. Received: version {version}. "
            "Train again with this release."
        )
    return arrays, position


def _position(content: dict[str, Any], version: int) -> Position:
    if version == 1:
        content["best_loss"] = None if content["best_loss"] == float("inf") else content["best_loss"]
        content["values"] = content["values"] or None
    return codec.from_plain(Position, content)
