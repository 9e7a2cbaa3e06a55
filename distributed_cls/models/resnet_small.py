"""The residual network of He et al. for small images (2015, https://arxiv.org/abs/1512.03385, section 4.2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distributed_cls.config.registry import register_model
from distributed_cls.config.section import setting
from distributed_cls.models.building import NORM_MOMENTUM, head, normalised
from distributed_cls.models.pretrained import PretrainedSettings

if TYPE_CHECKING:
    import keras

_STAGES = 3
_LAYERS_PER_ROUND = 2 * _STAGES  # two in each block, a block in each stage
_OTHER_LAYERS = 2  # the first convolution and the output layer


@register_model
@dataclass
class ResnetSmallConfig(PretrainedSettings):
    """A residual network for images of about 32 pixels: three stages of basic blocks, few weights."""

    has_fixed_features: ClassVar[bool] = True

    name: str = setting("resnet_small", "which model", choices=("resnet_small",))
    depth: int = setting(20, "layers with weights: 6n + 2, n blocks in each of the three stages", at_least=8)
    width: int = setting(
        16, "filters of the first stage; each further stage doubles them and halves the resolution", at_least=1
    )
    dropout: float = setting(0.0, "fraction of activations dropped before the output layer", at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        rest = (self.depth - _OTHER_LAYERS) % _LAYERS_PER_ROUND
        if rest:
            lower = self.depth - rest
            advice = f"Set model.depth={lower}, or model.depth={lower + _LAYERS_PER_ROUND}."
            self.refuse("depth", self.depth, "6n + 2 (8, 14, 20, 26, 32, 38, 44, 50, 56, …)", advice)

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        import keras

        x = _norm_relu(_convolution(normalised(pixels), self.width, 1, "stem"), "stem")
        for stage in range(_STAGES):
            for block in range((self.depth - _OTHER_LAYERS) // _LAYERS_PER_ROUND):
                stride = 2 if stage and not block else 1
                x = _block(x, self.width * 2**stage, stride, f"stage_{stage}_block_{block}")
        return head(keras.layers.GlobalAveragePooling2D(name="pool")(x), classes, self.dropout)


def _block(x: "keras.KerasTensor", filters: int, stride: int, name: str) -> "keras.KerasTensor":
    """ReLU of the input plus what two convolutions make of it."""
    import keras

    change = _norm_relu(_convolution(x, filters, stride, f"{name}_a"), f"{name}_a")
    change = _norm(_convolution(change, filters, 1, f"{name}_b"), f"{name}_b")
    if stride > 1:
        # The paper's option A: every second pixel, new channels of zeros; a shortcut without weights.
        x = keras.layers.MaxPooling2D(1, strides=stride, padding="same", name=f"{name}_every_second")(x)
    new = filters - x.shape[-1]
    if new:
        x = keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [new // 2, new - new // 2]])
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_sum")([x, change]))


def _convolution(x: "keras.KerasTensor", filters: int, stride: int, name: str) -> "keras.KerasTensor":
    import keras

    # He et al. 2015 (https://arxiv.org/abs/1502.01852); no bias, since normalisation follows.
    return keras.layers.Conv2D(
        filters, 3, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _norm(x: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    import keras

    return keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)


def _norm_relu(x: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    import keras

    return keras.layers.ReLU(name=f"{name}_relu")(_norm(x, name))
