"""A stack of fully connected layers: the baseline, for small images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_cls.config.registry import ModelSettings, register_model
from distributed_cls.config.section import setting
from distributed_cls.models.building import head, normalised

if TYPE_CHECKING:
    import keras


@register_model
@dataclass
class DenseConfig(ModelSettings):
    """A stack of fully connected layers."""

    name: str = setting("dense", "which model", choices=("dense",))
    units: list[int] = setting([256, 128], "width of each hidden layer", at_least=1)
    dropout: float = setting(0.2, "fraction of activations dropped before the output layer", at_least=0, below=1)

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        import keras

        x = keras.layers.Flatten(name="flatten")(normalised(pixels))
        for index, units in enumerate(self.units):
            x = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(x)
        return head(x, classes, self.dropout)
