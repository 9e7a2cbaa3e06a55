"""Convolution blocks and a dense layer: trains in minutes without a GPU."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distributed_cls.config.registry import register_model
from distributed_cls.config.section import setting
from distributed_cls.errors import UserError
from distributed_cls.models.building import NORM_MOMENTUM, head, normalised
from distributed_cls.models.pretrained import PretrainedSettings

if TYPE_CHECKING:
    import keras


@register_model
@dataclass
class CnnConfig(PretrainedSettings):
    """Convolution blocks (convolution, batch normalisation, ReLU, pooling) and a dense head."""

    has_fixed_features: ClassVar[bool] = True

    name: str = setting("cnn", "which model", choices=("cnn",))
    filters: list[int] = setting([32, 64, 128], "filters of each block; every block halves the resolution", at_least=1)
    units: int = setting(128, "units of the dense layer before the output layer", at_least=1)
    dropout: float = setting(0.3, "fraction of activations dropped before the output layer", at_least=0, below=1)
    batch_norm: bool = setting(True, "normalise activations over the batch")
    pool_first: bool = setting(
        False,
        "pool before normalisation and ReLU instead of after them, which then have a quarter of the work",
    )

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        import keras

        x = normalised(pixels)
        for index, filters in enumerate(self.filters):
            if min(x.shape[1:3]) < 2:
                raise UserError(
                    f"Expected model.filters to fit the image: each block halves it. Received: {len(self.filters)} "
                    f"blocks for data.image_size={pixels.shape[1]}. Set at most {index} filters, or a larger image."
                )
            name, bias = f"block_{index}", not self.batch_norm
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=bias, name=f"{name}_conv")(x)
            pool = keras.layers.MaxPooling2D(name=f"{name}_pool")
            if self.pool_first:
                x = pool(x)
            if self.batch_norm:
                x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
            if not self.pool_first:
                x = pool(x)
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(self.units, activation="relu", name="dense")(x)
        return head(x, classes, self.dropout)
