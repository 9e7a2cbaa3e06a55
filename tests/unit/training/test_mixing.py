"""mixup and CutMix against NumPy, pixel by pixel."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distributed_cls.config import TrainConfig
from distributed_cls.errors import UserError
from distributed_cls.training.draws import Draws
from distributed_cls.training.losses import mixed_losses
from distributed_cls.training.mixing import mix

SIZE, SLICE = 8, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 5, 64)
# Of each image the one before it in its slice of four.
PARTNERS = np.roll(np.arange(64).reshape(-1, SLICE), 1, axis=1).ravel()


def _mix(step: int = 0, own: range = range(64), seed: int = 0, **settings: float) -> list[np.ndarray]:
    config = TrainConfig(batch_size=64, lanes=16, seed=seed, **settings)
    draws = Draws(config.seed, tf.constant(step, tf.int64), own, 64)
    part = slice(own.start, own.stop)
    mixed = mix(tf.constant(IMAGES[part]), tf.constant(LABELS[part]), config, draws, SLICE)
    assert mixed.images.dtype == tf.uint8
    return [value.numpy() for value in mixed]


def test_mixup_is_the_weighted_mean_of_both_images_and_their_labels() -> None:
    images, labels, partners, shares = _mix(mixup=0.4)
    weights = shares[:, None, None, None].astype(np.float64)
    expected = weights * IMAGES + (1 - weights) * IMAGES[PARTNERS]
    np.testing.assert_allclose(images, expected, atol=0.51)
    assert labels.tolist() == LABELS.tolist() and partners.tolist() == LABELS[PARTNERS].tolist()


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0])
def test_the_weights_are_of_the_beta_distribution(alpha: float) -> None:
    shares = np.concatenate([_mix(step, mixup=alpha)[3] for step in range(16)])
    assert np.isfinite(shares).all()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_pastes_a_box_and_its_area_is_the_partners_share() -> None:
    images, _, partners, shares = _mix(cutmix=1.0)
    assert partners.tolist() == LABELS[PARTNERS].tolist()
    assert len(set(shares.tolist())) > 10 and shares.min() < 0.5
    for image, own, other, share in zip(images, IMAGES, IMAGES[PARTNERS], shares, strict=True):
        pasted = (image != own).any(-1)
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        expected, area = own.copy(), 0
        if rows.size:
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            expected[box], area = other[box], rows.size * columns.size
        np.testing.assert_array_equal(image, expected)
        assert share == pytest.approx(1 - area / SIZE**2)


def test_with_both_each_image_gets_one_of_them() -> None:
    both, mixup, cutmix = (
        _mix(**settings) for settings in ({"mixup": 1.0, "cutmix": 1.0}, {"mixup": 1.0}, {"cutmix": 1.0})
    )
    is_cut = [np.array_equal(image, other) for image, other in zip(both[0], cutmix[0], strict=True)]
    for number, cut in enumerate(is_cut):
        source = cutmix if cut else mixup
        np.testing.assert_array_equal(both[0][number], source[0][number])
        assert both[3][number] == source[3][number]
    assert 16 <= sum(is_cut) <= 48


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_any_number_of_ranks_mixes_the_same_images(settings: dict[str, float]) -> None:
    whole = _mix(3, seed=7, **settings)
    for cuts in ([0, 32, 64], [0, 20, 44, 64]):
        parts = [_mix(3, range(start, stop), seed=7, **settings) for start, stop in itertools.pairwise(cuts)]
        for column, expected in zip(zip(*parts, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(column), expected)
    for step, seed in ((4, 7), (3, 8)):
        assert not np.array_equal(_mix(step, seed=seed, **settings)[0], whole[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_the_mixed_label(smoothing: float) -> None:
    random = np.random.default_rng(0)
    logits, weights = random.normal(size=(64, 5)).astype(np.float32), np.array([1, 2, 0.5, 3, 1], np.float32)
    shares, partners = random.uniform(size=64).astype(np.float32), LABELS[PARTNERS]
    losses, weighted = mixed_losses(tf.constant(logits), LABELS, smoothing, tf.constant(weights), partners, shares)
    own, other = shares[:, None] * np.eye(5)[LABELS], (1 - shares[:, None]) * np.eye(5)[partners]
    expected = keras.losses.CategoricalCrossentropy(True, smoothing, reduction=None)
    np.testing.assert_allclose(losses, expected(own + other, logits), rtol=1e-5)
    one, two = (expected(np.eye(5)[label], logits) * weights[label] for label in (LABELS, partners))
    np.testing.assert_allclose(weighted, shares * one + (1 - shares) * two, rtol=1e-5)


def test_a_lane_has_two_images_of_a_batch_to_mix() -> None:
    assert [TrainConfig(batch_size=size, mixup=0.2).lane_count for size in (128, 64, 6, 2)] == [64, 32, 3, 1]
    assert TrainConfig(batch_size=64).lane_count == 64
    for lanes, batch in ((64, 64), (None, 1)):
        with pytest.raises(
            UserError, match=rf"train\.lanes to be at most half of train\.batch_size={batch} with mixup"
        ):
            TrainConfig(batch_size=batch, lanes=lanes, cutmix=1.0)
