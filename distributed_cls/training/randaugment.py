"""RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719)."""

import math
from collections.abc import Callable

import tensorflow as tf

from distributed_cls.training import pixel_changes
from distributed_cls.training.draws import Draws

# The paper's changes but equalisation, which needs a histogram of every image.
CHANGES = (
    *("identity", "autocontrast", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("brightness", "contrast", "colour", "sharpness", "posterize", "solarize"),
)
STRONGEST = 10
# At the strongest magnitude, from AutoAugment (Cubuk et al. 2019, https://arxiv.org/abs/1805.09501, table 6).
_ANGLE, _SHEAR, _TRANSLATION = math.pi / 6, 0.3, 0.45  # radians, parts of the edge
_FACTOR, _LOST_BITS = 0.9, 4


def randaugment(images: tf.Tensor, changes: int, magnitude: float, draws: Draws, purpose: int) -> tf.Tensor:
    """``changes`` times one of ``CHANGES`` for each float32 [N, S, S, C] image, with whole numbers from 0 to 255.

    magnitude: 0 to 10. What has two directions takes either. ``purpose`` and the numbers after it are for ``draws``.
    """
    for number in range(changes):
        chosen = draws.integers(purpose + 2 * number, 0, len(CHANGES))
        side = tf.where(draws.uniform(purpose + 2 * number + 1) < 0.5, -1.0, 1.0)
        images = change(images, chosen, side, magnitude / STRONGEST)
    return images


def change(images: tf.Tensor, chosen: tf.Tensor, side: tf.Tensor, strength: float) -> tf.Tensor:
    """Change each image by number ``chosen`` (int32 [N]) of ``CHANGES``.

    side: 1 or -1 [N], the direction. strength: 0 to 1.
    """

    def where(name: str, value: tf.Tensor | float, neutral: float) -> tf.Tensor:
        """``value`` for the images that get this change, ``neutral`` for the others."""
        return tf.where(chosen == CHANGES.index(name), value, neutral)

    def factor(name: str) -> tf.Tensor:
        return where(name, 1 + side * _FACTOR * strength, 1.0)

    images = pixel_changes.whole(pixel_changes.warp(images, *_places(where, side, strength, images.shape[1])))
    images = pixel_changes.brightness(images, factor("brightness"))
    images = pixel_changes.contrast(images, factor("contrast"))
    if images.shape[-1] > 1:
        images = pixel_changes.colour(images, factor("colour"))
    images = pixel_changes.sharpness(images, factor("sharpness"))
    images = pixel_changes.whole(pixel_changes.autocontrast(images, chosen == CHANGES.index("autocontrast")))
    images = pixel_changes.posterize(images, 8 - tf.cast(where("posterize", round(_LOST_BITS * strength), 0), tf.int32))
    return pixel_changes.solarize(images, where("solarize", 256 * (1 - strength), 256.0))


def _places(
    where: Callable[[str, tf.Tensor | float, float], tf.Tensor], side: tf.Tensor, strength: float, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The matrix [N, 2, 2] and the movement [N, 2] of the changes that move pixels."""
    angle = where("rotate", side * _ANGLE * strength, 0.0)
    shears = [where(name, side * _SHEAR * strength, 0.0) for name in ("shear_x", "shear_y")]
    moves = [where(name, side * _TRANSLATION * strength * size, 0.0) for name in ("translate_x", "translate_y")]
    # An image gets one of them, so that the sum has one term that is not the identity's.
    rows = [[tf.cos(angle), shears[0] - tf.sin(angle)], [shears[1] + tf.sin(angle), tf.cos(angle)]]
    return tf.stack([tf.stack(row, 1) for row in rows], 1), tf.stack(moves, 1)
