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
    # Whether the frozen backbone gives the same for the same image in training as well: no random layers in it.
    has_fixed_features: ClassVar[bool] = False

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
    feature_cache: str = setting(
        "auto",
        "compute the frozen backbone's output for each image once, and train the head on it; auto: where that can be "
        "done; on: or refuse to start",
        choices=("auto", "on", "off"),
    )
    feature_views: int | None = setting(
        None,
        "feature cache with augmentation: views of each training image that are stored, of which every epoch takes one "
        "at random; null: none, and images are augmented anew in every epoch, without the cache",
        at_least=1,
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

        if self.feature_cache == "on" and not self.has_fixed_features:
            self.refuse(
                "feature_cache",
                "on",
                f"auto or off with model={self.name}, which does not promise the same features for the same image",
                "Set has_fixed_features in its class, if it has no random layers before the head.",
            )

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.weights is not None if self.freeze_backbone is None else self.freeze_backbone

    @property
    def keeps_features(self) -> str:
        return self.feature_cache if self.has_fixed_features else "off"

    @property
    def stored_views(self) -> int:
        return self.feature_views or 0


def freeze_backbone(model: "keras.Model") -> None:
    """Leave only the head trainable. BatchNorm then uses its stored statistics, in training too."""
    for layer in model.layers:
        layer.trainable = layer.name in HEAD


def backbone_of(model: "keras.Model") -> "keras.Model":
    """The part of ``model`` before its head, with the same layers: images → features [N, D].

    Call it before ``head_of``, which gives the head a second input.
    """
    import keras

    return keras.Model(model.inputs[0], _head_layers(model)[0].input, name="features")


def head_of(model: "keras.Model") -> "keras.Model":
    """The head of ``model`` with the same layers, and so the same weights: features [N, D] → logits [N, classes]."""
    import keras

    layers = _head_layers(model)
    features = keras.Input(layers[0].input.shape[1:], name="features")
    logits = features
    for layer in layers:
        logits = layer(logits)
    return keras.Model(features, logits, name="head")


def _head_layers(model: "keras.Model") -> "list[keras.Layer]":
    return [layer for layer in model.layers if layer.name in HEAD]


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
