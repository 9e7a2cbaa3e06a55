"""What models have in common whose layers before the head can begin from given weights, and stay as they are.

The head is the last layers, of the names in ``HEAD``; all layers before them are the backbone, whether they are layers
of the model itself or of a nested one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distributed_cls.config.registry import ModelSettings
from distributed_cls.config.section import setting
from distributed_cls.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

HEAD = ("dropout", "logits")
IMAGENET = "imagenet"


@dataclass
class PretrainedSettings(ModelSettings):
    """A model whose backbone may come from elsewhere. Sub-classes build it with ``building.head`` at its end."""

    has_imagenet: ClassVar[bool] = False  # whether Keras offers weights of it

    name: str = setting("", "which model")
    weights: str | None = setting(
        None,
        "start of the backbone, which is every layer before the head: null (random), an earlier run's folder, or the "
        "path or URL of a weights file",
    )
    freeze_backbone: bool | None = setting(None, "train only the new head; null: exactly when weights are given")
    fine_tune_from: str | None = setting(
        None,
        "second phase (train.fine_tune_epochs): how the name of the first layer begins that is trained, such as conv5 "
        "in ResNet50; null: the whole backbone",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_backbone and self.weights is None:
            self.refuse(
                "freeze_backbone",
                True,
                "false while model.weights is null (a random backbone cannot stay as it is)",
                "Set model.weights, or model.freeze_backbone=false.",
            )
        if self.weights == IMAGENET and not self.has_imagenet:
            self.refuse(
                "weights",
                self.weights,
                f"null, a run folder or a weights file (there are no ImageNet weights of model={self.name})",
                "Choose model=backbone or model=resnet for them.",
            )

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.weights is not None if self.freeze_backbone is None else self.freeze_backbone


def freeze_backbone(model: "keras.Model") -> None:
    """Leave only the head trainable. BatchNorm then uses its stored statistics, in training too."""
    for layer in model.layers:
        layer.trainable = layer.name in HEAD


def unfreeze_top(model: "keras.Model", first: str | None) -> None:
    """Make the backbone of ``model`` trainable from the layer on whose name begins with ``first`` (None: all of it).

    BatchNorm stays frozen: new statistics would undo what the layers above it have learned, as Keras's transfer guide
    says. Raises UserError when no layer is called so.
    """
    import keras

    every = _layers(model)
    names = [layer.name for layer in every]
    start = 0 if first is None else next((index for index, name in enumerate(names) if name.startswith(first)), None)
    if start is None:
        ends = ", ".join([layer.name for layer in every if layer.weights][-6:])
        raise UserError(
            f"Expected model.fine_tune_from to be the beginning of a layer's name in the backbone, the last of which "
            f"are {ends}. Received: model.fine_tune_from={first}. Set it to one of them, or leave it out."
        )
    for nested in (layer for layer in model.layers if isinstance(layer, keras.Model)):
        nested.trainable = True  # or none of its layers would be
    for index, layer in enumerate(every):
        layer.trainable = index >= start and not isinstance(layer, keras.layers.BatchNormalization)


def weighted_layers(model: "keras.Model") -> "list[keras.Layer]":
    """The layers of ``model``'s backbone that have weights, those of nested models among them, in their order."""
    return [layer for layer in _layers(model) if layer.weights]


def _layers(model: "keras.Model") -> "list[keras.Layer]":
    """The layers of ``model``'s backbone, in their order."""
    import keras

    found: list[keras.Layer] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _layers(layer)
        elif layer.name not in HEAD:
            found.append(layer)
    return found


def check_fits(source: str, layers: "Sequence[keras.Layer]", given: "Sequence[Sequence[tuple[int, ...]]]") -> None:
    """Refuse weights of other shapes than those of ``layers``. given: of each layer in ``source``, in their order.

    Raises UserError that names the first layer which does not fit.
    """
    for layer, shapes in zip(layers, given, strict=False):
        expected = [tuple(weight.shape) for weight in layer.weights]
        if expected != list(shapes):
            raise UserError(
                f"Expected model.weights to fit the layer {layer.name}: {_listed(expected)}. Received: "
                f"{_listed(shapes)} in {source}. {REMEDY}"
            )
    if len(layers) != len(given):
        raise UserError(
            f"Expected model.weights to hold the {len(layers)} layers with weights of this backbone. "
            f"Received: {len(given)} in {source}. {REMEDY}"
        )


REMEDY = "Set model.weights to a file of the same network, or change the model's settings to those of the file."


def _listed(shapes: "Sequence[tuple[int, ...]]") -> str:
    return ", ".join(str(shape) for shape in shapes) or "no weights"
