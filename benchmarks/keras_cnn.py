"""The default CNN written by hand, for Keras 3 and for legacy tf_keras: their layers have the same names."""

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def cnn(api: ModuleType, size: int, classes: int, channels: int = 3, pool_first: bool = False) -> "keras.Model":
    """The network in ``api`` (keras or tf_keras): float32 [N, size, size, channels], 0 to 255 → logits [N, classes].

    pool_first: pool before normalisation and ReLU instead of after them.
    """
    layers = [api.layers.Input((size, size, channels)), api.layers.Rescaling(1 / 127.5, offset=-1)]
    for filters in (32, 64, 128):
        convolution = api.layers.Conv2D(filters, 3, padding="same", use_bias=False)
        activation = [api.layers.BatchNormalization(momentum=0.9), api.layers.ReLU()]
        pooling = [api.layers.MaxPooling2D()]
        layers += [convolution, *(pooling + activation if pool_first else activation + pooling)]
    layers += [api.layers.Flatten(), api.layers.Dense(128, activation="relu"), api.layers.Dropout(0.3)]
    return api.Sequential([*layers, api.layers.Dense(classes)])
