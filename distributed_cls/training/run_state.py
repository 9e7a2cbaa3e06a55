"""The state of a run, to and from its checkpoint (``contracts/checkpoint.py``): every variable, and where it stands."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.errors import UserError


def save(path: Path, variables: Sequence[keras.Variable], position: Position) -> None:
    """Write ``variables`` (their values on this rank) and ``position`` to ``path``, whole or not at all."""
    arrays = {_key(index, variable): np.asarray(variable) for index, variable in enumerate(variables)}
    checkpoint.write(path, arrays, position)


def load(path: Path, variables: Sequence[keras.Variable]) -> Position:
    """Set ``variables`` to the values in ``path``; return where that run stood.

    ``variables`` may be the first part of what was saved (a model without its optimizer).
    Raises UserError when the file is damaged, or was written for another model.
    """
    arrays, position = checkpoint.read(path)
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


def _key(index: int, variable: keras.Variable) -> str:
    return f"{index:05d}:{variable.name}"  # not the path: it counts the layers that a process has made before
