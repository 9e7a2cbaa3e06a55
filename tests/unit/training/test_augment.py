"""Augmentation against plain NumPy indexing."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from distributed_cls.config import TrainConfig
from distributed_cls.training import randaugment
from distributed_cls.training.augment import augment
from distributed_cls.training.draws import Draws

SIZE = 10
IMAGES = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)


def _augment(step: int = 0, own: range = range(64), **settings: object) -> np.ndarray:
    return _augmented(IMAGES, step, own, **settings)


def _augmented(images: np.ndarray, step: int = 0, own: range = range(64), **settings: object) -> np.ndarray:
    config = TrainConfig(**settings)
    draws = Draws(config.seed, tf.constant(step, tf.int64), own, 64)
    result = augment(tf.constant(images[own.start : own.stop]), config, draws)
    assert result.dtype == tf.uint8 and result.shape[1:] == images.shape[1:]
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


def test_light_is_flip_and_a_shift_of_a_tenth() -> None:
    np.testing.assert_array_equal(_augment(augment="light"), _augment(flip=True, shift=0.1))
    np.testing.assert_array_equal(_augment(augment="light", shift=0.2), _augment(flip=True, shift=0.2))


def test_photo_changes_the_light_by_a_fifth_at_most_and_the_crop_by_a_fifth_of_the_edge() -> None:
    even = _augmented(np.full((64, SIZE, SIZE, 3), 100, np.uint8), augment="photo")
    values = even[:, 0, 0, 0].astype(int)
    assert (even == values[:, None, None, None]).all()
    assert 80 <= values.min() < 90 and 110 < values.max() <= 120
    ramp = np.broadcast_to((np.arange(SIZE) * 20 + 30).astype(np.uint8)[None, None, :, None], (64, SIZE, SIZE, 1))
    found = _augmented(ramp.copy(), augment="photo").astype(float)
    assert np.ptp(found, axis=1).max() == 0  # rows stay alike
    slopes = np.diff(found[:, 0, :, 0], axis=1).mean(1) / 20  # crop times brightness times contrast
    assert 0.8 * 0.8 * 0.8 - 0.03 <= slopes.min() < 0.8 and 1 < slopes.max() <= 1.2 * 1.2 + 0.03


def test_erasing_fills_a_box_of_its_share_of_the_images_with_their_mean() -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 20, 20, 3), dtype=np.uint8)
    areas = []
    for image, found in zip(images, _augmented(images, erase=0.5), strict=True):
        changed = (image != found).any(-1)
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            box = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert np.abs(box - image.reshape(-1, 3).mean(0)).max() <= 0.5 + 1e-3
            areas.append(box.shape[0] * box.shape[1] / 400)
    assert 16 <= len(areas) <= 48
    assert 0.01 <= min(areas) < 0.1 and 0.3 < max(areas) <= 0.43  # whole pixels
    assert _augmented(images, erase=1.0).shape == images.shape


@pytest.mark.parametrize("magnitude", [3.0, 10.0])
def test_randaugment_makes_each_of_its_changes_and_no_other(magnitude: float) -> None:
    images = (IMAGES * (200 / 255) + 20).astype(np.uint8)  # there is a contrast to stretch
    settings = {"augment": "randaugment", "randaugment_changes": 1, "randaugment_magnitude": magnitude}
    seen = set()
    for step in range(4):
        for image, found in zip(images, _augmented(images, step, **settings), strict=True):
            distance = {name: np.abs(found - one.astype(float)).max() for name, one in _changed(image, magnitude / 10)}
            nearest = min(distance, key=distance.__getitem__)
            assert distance[nearest] < 2.01, distance  # Pillow rounds its greys, and cuts off fractions
            seen.add(nearest)
    assert {name.rstrip("+-") for name in seen} == set(randaugment.CHANGES)
    # Each of the two directions, where there are two.
    assert {name for name in seen if name[-1] in "+-"} == {
        name for name, _ in _changed(images[0], 1.0) if name[-1] in "+-"
    }


def _changed(image: np.ndarray, strength: float) -> list[tuple[str, np.ndarray]]:
    """What SciPy and Pillow make of an image, by the name of the change and its direction."""
    picture, found = Image.fromarray(image), [("identity", image)]
    found.append(("autocontrast", np.asarray(ImageOps.autocontrast(picture))))
    found.append(("posterize", np.asarray(ImageOps.posterize(picture, 8 - round(4 * strength)))))
    found.append(("solarize", np.where(image >= 256 * (1 - strength), 255 - image, image)))
    for sign, side in (("+", 1), ("-", -1)):
        enhancers = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast}
        enhancers |= {"colour": ImageEnhance.Color, "sharpness": ImageEnhance.Sharpness}
        for name, enhancer in enhancers.items():
            found.append((name + sign, np.asarray(enhancer(picture).enhance(1 + side * 0.9 * strength))))
        angle, shear, move = (side * strength * most for most in (np.pi / 6, 0.3, 0.45 * SIZE))
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]  # of (row, column)
        for name, matrix, offset in (
            ("rotate", turn, [0, 0]),
            ("shear_x", [[1, 0], [shear, 1]], [0, 0]),
            ("shear_y", [[1, shear], [0, 1]], [0, 0]),
            ("translate_x", np.eye(2), [0, move]),
            ("translate_y", np.eye(2), [move, 0]),
        ):
            found.append((name + sign, _warped(image, np.array(matrix), np.array(offset))))
    return found


def _warped(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    centre = np.full(2, (SIZE - 1) / 2)
    places = {"offset": centre - matrix @ centre + offset, "order": 1, "mode": "nearest"}
    planes = [ndimage.affine_transform(image[..., c].astype(float), matrix, **places) for c in range(3)]
    return np.stack(planes, -1)


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": True},
        {"shift": 0.3},
        {"augment": "photo"},
        {"augment": "randaugment"},
        {"erase": 0.7},
    ],
)
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
