"""Weights that a backbone begins from: every kind of file, and which layer does not fit."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from distributed_cls.errors import UserError
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.pretrained import weighted_layers
from distributed_cls.models.resnet_small import ResnetSmallConfig
from distributed_cls.training import start_weights

SIZE = 32
SETTINGS = BackboneConfig(alpha=0.35)


@pytest.fixture(scope="module")
def earlier() -> keras.Model:
    """A network of another number of classes."""
    return build(SETTINGS, SIZE, 7)


@pytest.fixture(scope="module")
def folder(earlier: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its backbone in every format that Keras writes, or once wrote."""
    folder = tmp_path_factory.mktemp("weights")
    backbone = earlier.get_layer("backbone")
    earlier.save(folder / "whole.keras")
    backbone.save(folder / "backbone.keras")
    backbone.save_weights(folder / "backbone.weights.h5")
    with h5py.File(folder / "backbone.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, backbone)
    (folder / "damaged.keras").write_bytes((folder / "whole.keras").read_bytes()[:5000])
    (folder / "damaged.weights.h5").write_bytes((folder / "backbone.weights.h5").read_bytes()[:5000])
    return folder


def assert_same_backbone(model: keras.Model, other: keras.Model) -> None:
    one, two = weighted_layers(model), weighted_layers(other)
    assert len(one) == len(two) > 0
    for layer, expected in zip(one, two, strict=True):
        for value, wanted in zip(layer.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("name", ["whole.keras", "backbone.keras", "backbone.weights.h5", "backbone.h5"])
def test_a_backbone_begins_from_the_weights_of_a_file(folder: Path, earlier: keras.Model, name: str) -> None:
    model = build(SETTINGS, SIZE, 3)
    head = model.get_layer("logits").get_weights()[0]
    start_weights.read(str(folder / name)).assign_to(model)
    assert_same_backbone(model, earlier)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], head)


@pytest.mark.parametrize("settings", [CnnConfig(filters=[4, 8], units=6), ResnetSmallConfig(depth=8, width=4)])
def test_so_does_a_small_network(tmp_path: Path, settings: CnnConfig | ResnetSmallConfig) -> None:
    trained = build(settings, 16, 5, channels=1)
    trained.save(tmp_path / "model.keras")
    model = build(settings, 16, 2, channels=1)
    start_weights.read(str(tmp_path / "model.keras")).assign_to(model)
    assert_same_backbone(model, trained)


@pytest.mark.parametrize("name", ["whole.keras", "backbone.weights.h5", "backbone.h5"])
def test_of_weights_that_do_not_fit_the_layer_and_the_shapes_are_named(folder: Path, name: str) -> None:
    wider = build(BackboneConfig(alpha=0.5), SIZE, 3)
    with pytest.raises(UserError) as raised:
        start_weights.read(str(folder / name)).assign_to(wider)
    message = str(raised.value)
    # The first that differs: 48 · 0.35 and 0.5 become other multiples of eight in the projection of the first blocks.
    for part in ("Expected model.weights to ", name, "project", "(1, 1, 48, 16)", "(1, 1, 48, 8)", "Set model.weights"):
        assert part in message, message
    assert "\n" not in message and len(message) < 600


def test_another_network_is_named_by_its_number_of_layers_or_its_first_layer(folder: Path) -> None:
    with pytest.raises(UserError, match=r"fit the layer stem_conv: \(3, 3, 3, 4\)\. Received: \(3, 3, 3, 16\) in"):
        start_weights.read(str(folder / "whole.keras")).assign_to(build(ResnetSmallConfig(depth=8, width=4), SIZE, 3))
    three, two = CnnConfig(filters=[4, 4, 4]), CnnConfig(filters=[4, 4])
    build(two, 8, 3).save(folder / "two.keras")
    with pytest.raises(UserError, match=r"fit the layer block_2_conv: .* Received: \(16, 128\), \(128,\)"):
        start_weights.read(str(folder / "two.keras")).assign_to(build(three, 8, 3))
    bare = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, use_bias=False)])
    bare.save(folder / "bare.keras")
    with pytest.raises(UserError, match=r"hold the 5 layers with weights .* Received: 1 in"):
        start_weights.read(str(folder / "bare.keras")).assign_to(build(two, 8, 3))


@pytest.mark.parametrize("name", ["damaged.keras", "damaged.weights.h5"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    with pytest.raises(UserError) as raised:
        start_weights.read(str(folder / name)).assign_to(build(SETTINGS, SIZE, 3))
    assert name in str(raised.value) and "\n" not in str(raised.value)
