"""Weights that a backbone begins from, out of a file that Keras wrote."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distributed_cls.errors import UserError
from distributed_cls.models.pretrained import REMEDY, check_fits, weighted_layers
from distributed_cls.text import first_line


@dataclass(frozen=True)
class StartWeights:
    """Weights from the file ``path``."""

    path: Path
    # Of each layer of the backbone that has weights, in their order. None: Keras itself has to read the file.
    layers: list[list[np.ndarray[Any, Any]]] | None

    def assign_to(self, model: keras.Model) -> None:
        """Set the weights of the backbone of ``model``. Raises UserError that names the first layer that differs."""
        layers = weighted_layers(model)
        if self.layers is None:
            _load(self.path, model)
            return
        check_fits(str(self.path), layers, [[value.shape for value in values] for values in self.layers])
        for layer, values in zip(layers, self.layers, strict=True):
            for weight, value in zip(layer.weights, values, strict=True):
                weight.assign(value)


def read(path: str) -> StartWeights:
    """The weights in a ``.keras`` file, of a whole model or of a backbone alone, or in one of Keras's ``.h5`` files.

    Call it outside of a strategy: the stored model is a plain one. Raises UserError for a damaged file.
    """
    file = Path(path)
    if file.suffix != ".keras":
        return StartWeights(file, None)
    try:
        stored = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # whatever a damaged file, or one with layers of somebody's own, asks for
        raise UserError(
            f"Expected model.weights to be a model of stock Keras layers. Received: {path}: {first_line(error)}. "
            f"{REMEDY}"
        ) from error
    layers = [[np.array(weight) for weight in layer.weights] for layer in weighted_layers(stored)]
    return StartWeights(file, layers)


def _load(path: Path, model: keras.Model) -> None:
    """Let Keras read an ``.h5`` file, which knows its layers by their order."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    backbone = nested[0] if nested else keras.Model(model.inputs, model.get_layer("logits").input)
    reason = ""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            backbone.load_weights(path)
        except Exception as error:  # ValueError, OSError, KeyError, …: Keras names no set of them
            reason = _layer_and_shapes(str(error))
    # Keras only warns of layers that the file lacks, and leaves them random.
    lacking = [str(warning.message) for warning in noted if issubclass(warning.category, UserWarning)]
    if reason or lacking:
        raise UserError(
            f"Expected model.weights to hold the weights of this backbone, without a head. Received: {path}: "
            f"{reason or first_line(lacking[0])}. {REMEDY}"
        )


def _layer_and_shapes(text: str) -> str:
    """Which layer, which shapes: Keras's message has them in the midst of much else."""
    layer = re.search(r"object <\w+ name=([^,>]+)", text)
    shapes = re.search(r"variable\.shape=(\([^)]*\)), Received: value\.shape=(\([^)]*\))", text)
    if layer and shapes:
        return f"the layer {layer[1]} should have {shapes[1]} and has {shapes[2]}"
    if layer:
        return f"the layer {layer[1]}: {first_line(text.partition('>:')[2])}"
    return first_line(text)
