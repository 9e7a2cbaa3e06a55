"""ResNet50 (He et al. 2015, https://arxiv.org/abs/1512.03385) as Keras ships it, as a backbone with a new head."""

import contextlib
import fcntl
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from distributed_cls.config.registry import ModelSettings, register_model
from distributed_cls.config.section import setting
from distributed_cls.errors import UserError
from distributed_cls.models.building import head, in_colour
from distributed_cls.text import first_line

if TYPE_CHECKING:
    import keras

# What keras.applications.resnet.preprocess_input does: channels as BGR, less ImageNet's mean, no scaling.
_IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)


@register_model
@dataclass
class ResnetConfig(ModelSettings):
    """ResNet50 with a new head (transfer learning)."""

    min_image_size: ClassVar[int] = 32  # it halves the image five times

    name: str = setting("resnet", "which model", choices=("resnet",))
    weights: str | None = setting(
        None, "start of the backbone: null (random), imagenet (downloaded by Keras), or the path of a weights file"
    )
    freeze_backbone: bool | None = setting(None, "train only the new head; null: exactly when weights are given")
    dropout: float = setting(0.2, "fraction of activations dropped before the output layer", at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_backbone and self.weights is None:
            self.refuse(
                "freeze_backbone",
                True,
                "false while model.weights is null (a random backbone cannot stay as it is)",
                "Set model.weights=imagenet, or model.freeze_backbone=false.",
            )

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        import keras

        backbone = _backbone(self.weights, pixels.shape[1])
        freeze = self.weights is not None if self.freeze_backbone is None else self.freeze_backbone
        backbone.trainable = not freeze
        # Stock layers only: a shift per channel, then RGB to BGR.
        x = keras.layers.Normalization(mean=_IMAGENET_MEAN_RGB, variance=(1.0, 1.0, 1.0), name="normalise")(
            in_colour(pixels)
        )
        x = keras.ops.flip(x, axis=-1)
        # A frozen backbone keeps its BatchNorm statistics as well (training=False), as Keras's transfer guide advises.
        return head(backbone(x, training=False) if freeze else backbone(x), classes, self.dropout)


def _backbone(weights: str | None, size: int) -> "keras.Model":
    import keras

    def make(start: str | None) -> keras.Model:
        return keras.applications.ResNet50(
            include_top=False, weights=start, input_shape=(size, size, 3), pooling="avg", name="backbone"
        )

    if weights == "imagenet":
        try:
            with _one_download_per_host():
                return make("imagenet")
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise UserError(
                "Expected to download the ImageNet weights of ResNet50 (model.weights=imagenet). Received: "
                f"{first_line(error)}. Without a network, set model.weights=/path/to/notop_weights.h5, or null."
            ) from error
    backbone = make(None)
    if weights is not None:
        _load(backbone, weights)
    return backbone


@contextlib.contextmanager
def _one_download_per_host() -> Iterator[None]:
    """One rank of a host at a time: Keras downloads into the final file, where another would find half of it."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".distributed_cls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _load(backbone: "keras.Model", weights: str) -> None:
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
            f"{first_line(error)}. Set model.weights to a file that Keras's save_weights wrote for it, or to imagenet."
        ) from error
