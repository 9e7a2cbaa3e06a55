"""What the model looked at: Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391)."""

import json
import threading
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed_cls.contracts.export import Export
from distributed_cls.errors import UserError
from distributed_cls.models.mirror_image import without_mirror_image


def can_explain(export: Export) -> bool:
    """Whether the model has a convolution, read from its configuration without building it."""
    with zipfile.ZipFile(export.keras_file) as archive:
        return "Conv2D" in set(_class_names(json.loads(archive.read("config.json"))))


def _class_names(config: Any) -> list[str]:
    if isinstance(config, list):
        return [name for part in config for name in _class_names(part)]
    if not isinstance(config, dict):
        return []
    own = [config["class_name"]] if isinstance(config.get("class_name"), str) else []
    return own + [name for part in config.values() for name in _class_names(part)]


class HeatMap:
    """Grad-CAM on the last feature maps of a model. Safe to call from several threads; one image at a time."""

    def __init__(self, export: Export) -> None:
        if not can_explain(export):
            raise UserError(f"Expected a model with convolutions for a heat map. Received: model {export.name}.")
        self._lock = threading.Lock()
        model = without_mirror_image(keras.models.load_model(export.keras_file, compile=False))
        self._gradient_model = _with_feature_maps(model)
        edge, channels = export.image_size, export.channels
        self._compute = tf.function(
            self._importance,
            input_signature=[tf.TensorSpec([1, edge, edge, channels], tf.float32), tf.TensorSpec([], tf.int32)],
            autograph=False,
        )

    def __call__(self, image: np.ndarray, class_index: int) -> np.ndarray:
        """How much each place of ``image``, uint8 [T, T, C], spoke for the class: float32 [h, w], 0 to 1."""
        with self._lock:
            raw: np.ndarray = self._compute(tf.constant(image[None], tf.float32), tf.constant(class_index)).numpy()
        highest = float(raw.max())
        return raw / highest if highest > 0 else raw

    def _importance(self, image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps, logits = self._gradient_model(image, training=False)
            score = logits[0, class_index]
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))[0]


def _with_feature_maps(model: keras.Model) -> keras.Model:
    """The model with two outputs: its last feature maps [N, h, w, C] and its logits [N, K].

    The layers (and so the weights) are shared with ``model``. A nested model is opened one level, because the maps of
    a backbone are not reachable from outside it.
    """
    target = _last_maps(model)
    assert target is not None, "the caller has checked that there is a convolution"
    maps = target.output
    found: dict[str, Any] = {}

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.Softmax):
            found["logits"] = args[0]
        if isinstance(layer, keras.Model) and _last_maps(layer) is target:
            opened = keras.Model(layer.inputs[0], [maps, layer.outputs[0]])
            found["maps"], output = opened(*args)
            return output
        output = layer(*args, **kwargs)
        if layer is target:
            found["maps"] = output
        return output

    clone = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    # A model from inside another one ends with its logits.
    return keras.Model(clone.inputs[0], [found["maps"], found.get("logits", clone.outputs[0])])


def _last_maps(model: keras.Model) -> keras.Layer | None:
    """The last layer whose output still has a place for each place of the image: the deepest look with positions.

    A convolution is chosen before the pooling that follows it, which has a quarter of its places; a residual
    network's last activation comes after its last convolution and is chosen then.
    """
    chosen: keras.Layer | None = None
    seen_convolution = False
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = _last_maps(layer)
            chosen, seen_convolution = (inner, True) if inner is not None else (chosen, seen_convolution)
        elif isinstance(layer, keras.layers.Conv2D):
            chosen, seen_convolution = layer, True
        elif seen_convolution and isinstance(layer, keras.layers.ReLU | keras.layers.Activation) and _is_map(layer):
            chosen = layer
    return chosen


def _is_map(layer: keras.Layer) -> bool:
    return len(layer.output.shape) == 4
