"""From a model's settings to a Keras model, and the parts that several models share."""

from typing import TYPE_CHECKING

from distributed_cls.config.registry import ModelSettings
from distributed_cls.models.pretrained import freeze_backbone

if TYPE_CHECKING:
    import keras

# Keras's 0.99 needs hundreds of steps to forget the initial statistics; small data sets end before that.
NORM_MOMENTUM = 0.9


def build(settings: ModelSettings, image_size: int, classes: int, channels: int = 3) -> "keras.Model":
    """Build a model: images [N, image_size, image_size, channels], 0 to 255 → float32 logits [N, classes].

    Its weights are random; where the settings say so, only those of the head are trainable.
    """
    import keras

    pixels = keras.Input((image_size, image_size, channels), name="image")
    model = keras.Model(pixels, settings.build(pixels, classes), name=settings.name)
    if settings.frozen:
        freeze_backbone(model)
    return model


def in_colour(pixels: "keras.KerasTensor") -> "keras.KerasTensor":
    """Images [N, S, S, 1 or 3] with three channels, for a backbone that knows no other number: grey is repeated."""
    import keras

    return pixels if pixels.shape[-1] == 3 else keras.layers.Concatenate(name="in_colour")([pixels] * 3)


def normalised(pixels: "keras.KerasTensor") -> "keras.KerasTensor":
    """Values 0 to 255 as -1 to 1."""
    import keras

    return keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(pixels)


def head(features: "keras.KerasTensor", classes: int, dropout: float) -> "keras.KerasTensor":
    """Logits of pooled or flat features [N, D], after dropout."""
    import keras

    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    # float32 whatever the compute policy: half-precision logits cost accuracy in the softmax.
    return keras.layers.Dense(classes, dtype="float32", name="logits")(features)
