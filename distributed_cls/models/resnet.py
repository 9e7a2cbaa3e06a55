"""ResNet50 (He et al. 2015, https://arxiv.org/abs/1512.03385) as Keras ships it, as a backbone."""

import contextlib
import fcntl
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras

from distributed_cls.config import ResnetConfig
from distributed_cls.errors import UserError

# What keras.applications.resnet.preprocess_input does: channels as BGR, less ImageNet's mean, no scaling.
_IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)


def resnet(config: ResnetConfig, pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Pooled features, float [N, 2048], of images [N, S, S, 3] with values 0 to 255; S is at least 32."""
    size = pixels.shape[1]
    backbone = _backbone(config.weights, size)
    freeze = config.weights is not None if config.freeze_backbone is None else config.freeze_backbone
    backbone.trainable = not freeze
    # Stock layers only, so that the saved model loads without this package: a shift per channel, then RGB to BGR.
    x = keras.layers.Normalization(mean=_IMAGENET_MEAN_RGB, variance=(1.0, 1.0, 1.0), name="normalise")(pixels)
    x = keras.ops.flip(x, axis=-1)
    # A frozen backbone keeps its BatchNorm statistics as well (training=False), as Keras's transfer guide advises.
    return backbone(x, training=False) if freeze else backbone(x)


def _backbone(weights: str | None, size: int) -> keras.Model:
    def make(start: str | None) -> keras.Model:
        return keras.applications.ResNet50(
            include_top=False, weights=start, input_shape=(size, size, 3), pooling="avg", name="backbone"
        )

    if weights == "imagenet":
        try:
            with _alone_on_this_host():
                return make("imagenet")
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise UserError(
                "Expected to download the ImageNet weights of ResNet50 (model.weights=imagenet). Received: "
                f"{_first_line(error)}. Without a network, set model.weights=/path/to/notop_weights.h5, or null."
            ) from error
    backbone = make(None)
    if weights is not None:
        _load(backbone, weights)
    return backbone


@contextlib.contextmanager
def _alone_on_this_host() -> Iterator[None]:
    """One rank of a host at a time: Keras downloads into the final file, where another would find half of it."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".distributed_cls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _load(backbone: keras.Model, weights: str) -> None:
    if not Path(weights).is_file():
        raise UserError(
            "Expected model.weights to be null, imagenet, or a weights file of ResNet50 without its top. "
            f"Received: model.weights={weights}, no file on this worker. Set model.weights to an existing file."
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that the file lacks, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            backbone.load_weights(weights)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise UserError(
            f"Expected model.weights to hold the weights of ResNet50 without its top. Received: {weights}: "
            f"{_first_line(error)}. Set model.weights to a file that Keras's save_weights wrote for it, or to imagenet."
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
