"""The story of this room: a model's settings in, a stock Keras 3 model out.

Every model takes images [batch, size, size, 3] with values 0 to 255 (normalisation is inside) and gives
logits [batch, classes] in float32.
"""

import keras

from distributed_cls.config import CnnConfig, DenseConfig, ModelConfig, ResnetConfig
from distributed_cls.errors import UserError
from distributed_cls.models.resnet import resnet

# Keras's 0.99 needs hundreds of steps to forget the initial statistics; small data sets end before that.
_NORM_MOMENTUM = 0.9


def _head(features: keras.KerasTensor, classes: int, dropout: float) -> keras.KerasTensor:
    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    # float32 whatever the compute policy: half-precision logits cost accuracy in the softmax.
    return keras.layers.Dense(classes, dtype="float32", name="logits")(features)


def _dense(config: DenseConfig, pixels: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(pixels)
    x = keras.layers.Flatten(name="flatten")(x)
    for index, units in enumerate(config.units):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(x)
    return _head(x, classes, config.dropout)


def _cnn(config: CnnConfig, pixels: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(pixels)
    for index, filters in enumerate(config.filters):
        if min(x.shape[1:3]) < 2:
            raise UserError(
                f"Expected model.filters to fit the image: each block halves it. Received: {len(config.filters)} "
                f"blocks for data.image_size={pixels.shape[1]}. Set at most {index} filters, or a larger image."
            )
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=not config.batch_norm, name=f"block_{index}_conv")(
            x
        )
        if config.batch_norm:
            x = keras.layers.BatchNormalization(momentum=_NORM_MOMENTUM, name=f"block_{index}_norm")(x)
        x = keras.layers.ReLU(name=f"block_{index}_relu")(x)
        x = keras.layers.MaxPooling2D(name=f"block_{index}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(config.units, activation="relu", name="dense")(x)
    return _head(x, classes, config.dropout)


def _resnet(config: ResnetConfig, pixels: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    return _head(resnet(config, pixels), classes, config.dropout)


_BUILDERS = {"dense": _dense, "cnn": _cnn, "resnet": _resnet}


def build(config: ModelConfig, image_size: int, classes: int) -> keras.Model:
    """Build the model ``config.name``: float32 [N, image_size, image_size, 3] → float32 logits [N, classes]."""
    pixels = keras.Input((image_size, image_size, 3), name="image")
    logits = _BUILDERS[config.name](config, pixels, classes)  # type: ignore[operator]
    return keras.Model(pixels, logits, name=config.name)
