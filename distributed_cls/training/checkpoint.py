"""Checkpoints: every variable of the run and where it stands, in one NumPy file that is whole or absent.

NumPy's zip container checks each array's CRC on reading, and opens anywhere, without TensorFlow.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distributed_cls.errors import UserError
from distributed_cls.storage.local_files import writing

SCHEMA_VERSION = 1
_POSITION = "position.json"


@dataclass
class Position:
    """Where a run stands at the end of an epoch."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps
    best_epoch: int = 0
    best_accuracy: float = -1.0  # on the val split; -1 before the first validation
    best_loss: float = float("inf")
    dataset: str = ""  # fingerprint
    values: dict[str, float] = field(default_factory=dict)  # of the last epoch: loss, accuracy, images per second
    schema_version: int = SCHEMA_VERSION

    def is_better(self, accuracy: float, loss: float) -> bool:
        """Whether a validation beats the best so far: by accuracy, by loss between equals."""
        return (accuracy, -loss) > (self.best_accuracy, -self.best_loss)


def save(path: Path, variables: Sequence[keras.Variable], position: Position) -> None:
    """Write ``variables`` (their values on this rank) and ``position`` to ``path``, atomically."""
    arrays: dict[str, Any] = {_key(index, variable): np.asarray(variable) for index, variable in enumerate(variables)}
    arrays[_POSITION] = np.frombuffer(json.dumps(asdict(position)).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as stream:
        np.savez(stream, **arrays)


def load(path: Path, variables: Sequence[keras.Variable]) -> Position:
    """Set ``variables`` to the values in ``path``; return where that run stood.

    ``variables`` may be the first part of what was saved (a model without its optimizer).
    Raises UserError when the file is damaged, or was written for another model.
    """
    arrays, position = _read(path)
    for index, variable in enumerate(variables):
        key = _key(index, variable)
        value = arrays.get(key)
        if value is None or value.shape != tuple(variable.shape):
            found = "no such variable" if value is None else f"shape {value.shape}"
            raise UserError(
                f"Expected {path} to hold {key} of shape {tuple(variable.shape)}. Received: {found}. "
                "Use the model settings that this checkpoint was written with, or an empty run folder."
            )
    for index, variable in enumerate(variables):
        variable.assign(arrays[_key(index, variable)])
    return position


def _read(path: Path) -> tuple[dict[str, np.ndarray], Position]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        position = Position(**json.loads(arrays.pop(_POSITION).tobytes()))
    except Exception as error:  # a damaged zip file raises whatever its changed bytes ask for
        raise UserError(
            f"Expected a checkpoint at {path}. Received: {type(error).__name__}: {error}. "
            "Remove the file to start over, or restore it."
        ) from error
    if position.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"Expected a checkpoint of schema version {SCHEMA_VERSION} at {path}. Received: version "
            f"{position.schema_version}. Train again with this release."
        )
    return arrays, position


def _key(index: int, variable: keras.Variable) -> str:
    return f"{index:05d}:{variable.name}"  # not the path: it counts the layers that a process has made before
