"""Augmentation against plain NumPy indexing."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.augment import augment

SIZE = 10
IMAGES = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)


def _augment(step: int = 0, own: range = range(64), **settings: object) -> np.ndarray:
    images = tf.constant(IMAGES[own.start : own.stop])
    result = augment(images, TrainConfig(**settings), tf.constant(step, tf.int64), own, 64)
    assert result.dtype == tf.uint8
    return result.numpy()


def _moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """``image`` read at an offset, the border repeated outwards."""
    rows = np.clip(np.arange(SIZE) + down, 0, SIZE - 1)
    columns = np.clip(np.arange(SIZE) + right, 0, SIZE - 1)
    return image[rows][:, columns]


def test_nothing_is_changed_unless_asked_for() -> None:
    np.testing.assert_array_equal(_augment(), IMAGES)


def test_half_of_the_images_are_mirrored_and_nothing_else_happens_to_them() -> None:
    result = _augment(flip=True)
    mirrored = [np.array_equal(found, image[:, ::-1]) for found, image in zip(result, IMAGES, strict=True)]
    kept = [np.array_equal(found, image) for found, image in zip(result, IMAGES, strict=True)]
    assert [a or b for a, b in zip(mirrored, kept, strict=True)] == [True] * 64
    assert 16 <= sum(mirrored) <= 48  # 64 tosses of a coin: beyond four standard deviations otherwise


def test_shifts_are_whole_pixels_in_every_direction_within_the_reach() -> None:
    result = _augment(shift=0.2)
    offsets = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    found = []
    for image, moved in zip(IMAGES, result, strict=True):
        fitting = [offset for offset in offsets if np.array_equal(moved, _moved(image, *offset))]
        assert len(fitting) == 1
        found += fitting
    assert {down for down, _ in found} == {right for _, right in found} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("settings", [{"flip": True}, {"shift": 0.3}])
def test_the_draw_depends_on_seed_step_and_place_in_the_global_batch_alone(settings: dict[str, object]) -> None:
    first = _augment(3, seed=7, **settings)
    tf.random.uniform([5])
    np.testing.assert_array_equal(first, _augment(3, seed=7, **settings))
    for step, seed in [(4, 7), (3, 8)]:
        assert not np.array_equal(first, _augment(step, seed=seed, **settings))
    # However the batch is cut into ranks, an image is changed in the same way.
    for cuts in ([0, 32, 64], [0, 21, 42, 64]):
        parts = [_augment(3, range(start, stop), seed=7, **settings) for start, stop in itertools.pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), first)
