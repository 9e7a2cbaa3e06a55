"""Every model as it is built: shapes, what it stands on, and what a plain Keras makes of its file."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from distributed_cls.errors import UserError
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from distributed_cls.models.resnet import ResnetConfig
from distributed_cls.models.resnet_small import ResnetSmallConfig

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def resnet() -> keras.Model:
    """A ResNet50 from random weights."""
    keras.utils.set_random_seed(0)
    return build(ResnetConfig(), SIZE, 5)


def _built(name: str, resnet: keras.Model) -> keras.Model:
    configs: dict[str, Any] = {
        "dense": DenseConfig(units=[16, 8]),
        "cnn": CnnConfig(filters=[4, 8], units=8),
        "resnet_small": ResnetSmallConfig(depth=8, width=4),
    }
    return resnet if name == "resnet" else build(configs[name], SIZE, 5)


@pytest.mark.parametrize("name", ["dense", "cnn", "resnet", "resnet_small"])
def test_a_saved_model_is_the_same_for_plain_keras(name: str, resnet: keras.Model, tmp_path: Path) -> None:
    model = _built(name, resnet)
    logits = model(IMAGES, training=False).numpy()
    assert logits.shape == (3, 5)
    assert logits.dtype == np.float32
    assert model.input_shape == (None, SIZE, SIZE, 3)
    # Logits, not probabilities: their exponentials do not sum to one.
    assert not np.allclose(logits.sum(1), 1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(again(IMAGES, training=False).numpy(), logits, rtol=1e-5, atol=1e-5)


def test_a_backbone_sees_a_grey_image_three_times(resnet: keras.Model) -> None:
    grey = build(ResnetConfig(), SIZE, 5, channels=1)
    grey.set_weights(resnet.get_weights())
    expected = resnet(np.repeat(IMAGES[..., :1], 3, axis=-1), training=False)
    np.testing.assert_allclose(grey(IMAGES[..., :1], training=False), expected, rtol=1e-5, atol=1e-5)
    assert build(CnnConfig(), SIZE, 5, channels=1).get_layer("block_0_conv").kernel.shape == (3, 3, 1, 32)


@pytest.mark.parametrize(
    "config", [DenseConfig(units=[]), CnnConfig(filters=[4], units=4), ResnetSmallConfig(depth=8, width=2)]
)
def test_logits_are_float32_under_half_precision(config: Any) -> None:
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(config, 8, 3)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert model(IMAGES[:, :8, :8], training=False).numpy().dtype == np.float32
    assert {layer.compute_dtype for layer in model.layers if layer.name.startswith("block")} <= {"bfloat16"}


def test_settings_decide_the_layers() -> None:
    model = build(CnnConfig(filters=[4, 8], units=6, dropout=0.0, batch_norm=False), SIZE, 5)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == kinds.count("MaxPooling2D") == 2
    assert "BatchNormalization" not in kinds and "Dropout" not in kinds
    # 3·3·3·4+4, 3·3·4·8+8, 8·8·8·6+6, 6·5+5
    assert model.count_params() == 112 + 296 + 3078 + 35
    dense = build(DenseConfig(units=[7], dropout=0.5), 8, 3)
    assert dense.count_params() == (8 * 8 * 3 + 1) * 7 + (7 + 1) * 3
    assert dense.get_layer("dropout").rate == 0.5


def test_pooling_first_changes_the_speed_and_not_the_network() -> None:
    """The maximum and everything that rises with its input can be exchanged: ReLU, and a scale above 0 with a shift."""
    late, early = (build(CnnConfig(filters=[4, 8], units=6, pool_first=first), SIZE, 5) for first in (False, True))
    early.set_weights(late.get_weights())
    np.testing.assert_allclose(early(IMAGES, training=False), late(IMAGES, training=False), atol=1e-5)
    order = [layer.name for layer in early.layers if layer.name.startswith("block_0")]
    assert order == [f"block_0_{part}" for part in ("conv", "pool", "norm", "relu")]


def test_too_many_blocks_for_the_image_are_refused() -> None:
    assert build(CnnConfig(filters=[2, 2, 2]), 8, 3).output_shape == (None, 3)
    with pytest.raises(UserError, match=r"Received: 4 blocks for data\.image_size=8\. Set at most 3 filters"):
        build(CnnConfig(filters=[2, 2, 2, 2]), 8, 3)


# ── the small residual network ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_the_small_residual_network_has_the_layers_and_weights_of_its_paper(depth: int, millions: float) -> None:
    """He et al. 2015, table 6: millions of parameters by depth, for ten classes and 32 pixels."""
    model = build(ResnetSmallConfig(depth=depth), SIZE, 10)
    weighted = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(weighted) == depth
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trained / 1e6 == pytest.approx(millions, abs=0.006)
    assert [model.get_layer(f"stage_{stage}_block_0_relu").output.shape[1:] for stage in range(3)] == [
        (32, 32, 16),
        (16, 16, 32),
        (8, 8, 64),
    ]


def test_the_shortcut_takes_every_second_pixel_and_new_channels_of_zeros() -> None:
    model = build(ResnetSmallConfig(depth=8, width=3), 9, 2)
    parts = keras.Model(
        model.inputs,
        [model.get_layer(name).output for name in ("stage_0_block_0_relu", "stage_1_block_0_b_norm")]
        + [model.get_layer("stage_1_block_0_sum").output],
    )
    before, change, total = (part.numpy() for part in parts([IMAGES[:, :9, :9]], training=False))
    shortcut = np.zeros((3, 5, 5, 6), np.float32)
    shortcut[..., 1:4] = before[:, ::2, ::2]
    np.testing.assert_allclose(total, shortcut + change, rtol=1e-6, atol=1e-6)


def test_a_depth_that_makes_no_whole_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.depth to be 6n \+ 2 .* Set model\.depth=20, or model\.depth=26\."):
        ResnetSmallConfig(depth=21)


# ── ResNet50 ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_resnet_sees_what_keras_own_preprocessing_gives(resnet: keras.Model) -> None:
    prepared = keras.applications.resnet.preprocess_input(IMAGES.copy())
    features = resnet.get_layer("backbone")(prepared, training=False)
    expected = resnet.get_layer("logits")(features)
    np.testing.assert_allclose(resnet(IMAGES, training=False).numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
