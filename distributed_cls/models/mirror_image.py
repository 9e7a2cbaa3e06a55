"""Test-time averaging: a model that looks at a picture and at its mirror image (as in Krizhevsky et al. 2012)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

_MEAN = "mean_of_mirror_images"


def with_mirror_image(model: "keras.Model") -> "keras.Model":
    """A model of the same variables whose logits are the means of those for an image and for its mirror image.

    It takes twice the time. ``model``: images [N, H, W, C] → logits [N, K].
    """
    import keras

    images = keras.Input(model.input_shape[1:])
    logits = keras.layers.Average(name=_MEAN)([model(images), model(keras.ops.flip(images, axis=2))])
    return keras.Model(images, logits, name=model.name)


def without_mirror_image(model: "keras.Model") -> "keras.Model":
    """The model inside one that ``with_mirror_image`` made, whatever follows it there; any other as it is."""
    import keras

    if any(layer.name == _MEAN for layer in model.layers):
        return next(layer for layer in model.layers if isinstance(layer, keras.Model))
    return model
