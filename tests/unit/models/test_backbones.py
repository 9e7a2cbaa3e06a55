"""Networks of keras.applications as backbones: their preprocessing, their ImageNet weights, what stays frozen."""

import keras
import numpy as np
import pytest

from distributed_cls.errors import UserError
from distributed_cls.models import applications
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.pretrained import unfreeze_top, weighted_layers
from distributed_cls.models.resnet import ResnetConfig
from distributed_cls.models.resnet_small import ResnetSmallConfig

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
_MODULES = {
    "ResNet50": "resnet",
    "VGG16": "vgg16",
    "ResNet50V2": "resnet_v2",
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "Xception": "xception",
    "NASNetMobile": "nasnet",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "DenseNet121": "densenet",
    "EfficientNetV2B0": "efficientnet_v2",
    "ConvNeXtTiny": "convnext",
}


def test_every_network_of_keras_can_be_chosen() -> None:
    offered = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert set(applications.NETWORKS) == offered


@pytest.mark.parametrize(("network", "module"), _MODULES.items())
def test_the_pixels_are_what_keras_own_preprocessing_gives(network: str, module: str) -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    ours = keras.Model(pixels, keras.layers.Identity()(applications.prepared(network, pixels)))(IMAGES).numpy()
    theirs = getattr(keras.applications, module).preprocess_input(IMAGES.copy())
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_efficientnet_sees_what_it_sees_with_keras_own_imagenet_weights() -> None:
    """With them Keras puts one more Rescaling into the network, which their file does not hold."""
    backbone = applications.make("EfficientNetB0", SIZE)
    normalisation = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization))
    deviation = np.array([0.229, 0.224, 0.225])
    # As in the file of the ImageNet weights.
    normalisation.set_weights([np.array([0.485, 0.456, 0.406]), deviation**2, np.array(0)])
    normalisation.finalize_state()
    stem = keras.Model(backbone.inputs, normalisation.output)
    ours = stem(applications.prepared("EfficientNetB0", IMAGES)).numpy()
    expected = (IMAGES / 255 - [0.485, 0.456, 0.406]) / deviation / np.sqrt(deviation)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [None, 0.35])
def test_a_backbone_is_frozen_with_its_statistics_and_gets_a_head(alpha: float | None) -> None:
    model = build(BackboneConfig(weights="backbone.keras", alpha=alpha, dropout=0.0), SIZE, 4)
    assert [variable.path for variable in model.trainable_variables] == ["logits/kernel", "logits/bias"]
    # Also in training a frozen backbone uses its stored statistics.
    np.testing.assert_allclose(model(IMAGES, training=True), model(IMAGES, training=False), rtol=1e-5, atol=1e-5)
    free = build(BackboneConfig(weights="backbone.keras", alpha=alpha, freeze_backbone=False), SIZE, 4)
    assert len(free.trainable_variables) > 100


@pytest.mark.parametrize("config", [CnnConfig(filters=[4, 8], units=6), ResnetSmallConfig(depth=8, width=4)])
def test_the_layers_of_a_small_network_are_frozen_as_well(config: CnnConfig | ResnetSmallConfig) -> None:
    config.weights, config.dropout = "runs/earlier", 0.0
    model = build(config, 8, 3)
    assert [variable.path for variable in model.trainable_variables] == ["logits/kernel", "logits/bias"]
    images = IMAGES[:, :8, :8]
    np.testing.assert_allclose(model(images, training=True), model(images, training=False), rtol=1e-5, atol=1e-5)
    assert all(layer.name not in ("logits", "dropout") for layer in weighted_layers(model))


@pytest.mark.parametrize(
    ("config", "first", "trained"),
    [
        (CnnConfig(filters=[4, 8], units=6), "block_1", ["block_1_conv", "dense", "logits"]),
        (
            CnnConfig(filters=[4, 8], units=6, batch_norm=False),
            None,
            ["block_0_conv", "block_1_conv", "dense", "logits"],
        ),
        (BackboneConfig(alpha=0.35), "block_16_project", ["block_16_project", "Conv_1", "logits"]),
    ],
)
def test_the_top_of_a_backbone_is_trained_without_its_normalisation(
    config: CnnConfig | BackboneConfig, first: str | None, trained: list[str]
) -> None:
    config.weights = "runs/earlier"
    config.dropout = 0.0
    model = build(config, SIZE, 3)
    unfreeze_top(model, first)
    found = {variable.path.split("/")[-2] for variable in model.trainable_variables}
    assert found == set(trained)
    # Its statistics are still those that are stored.
    np.testing.assert_allclose(model(IMAGES, training=True), model(IMAGES, training=False), rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    model = build(CnnConfig(weights="runs/earlier"), SIZE, 3)
    with pytest.raises(UserError, match=r"the last of which are .*block_2_norm, dense\. Received: .*=conv5\."):
        unfreeze_top(model, "conv5")


def test_settings_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.weights to be null, a run folder .* no ImageNet weights of model=cnn"):
        CnnConfig(weights="imagenet")
    with pytest.raises(UserError, match=r"freeze_backbone to be false while model\.weights is null"):
        ResnetConfig(freeze_backbone=True)
    with pytest.raises(UserError, match=r"model\.alpha to be null with model\.network=VGG16"):
        BackboneConfig(network="VGG16", alpha=0.5)
    assert BackboneConfig(network="InceptionV3").least_image_size == 75
