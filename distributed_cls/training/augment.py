"""Augmentation of training batches: mirroring and shifts, photographic changes, RandAugment, random erasing."""

import math

import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.draws import Draws
from distributed_cls.training.pixel_changes import brightness, contrast, fill_box, warp, whole
from distributed_cls.training.randaugment import randaugment

# What the numbers are drawn for. A number here never changes its meaning, or a seed would.
_FLIP, _SHIFT, _PHOTO, _ZOOM, _ERASE, _ERASE_BOX, _VIEW, _RANDAUGMENT = 0, 1, 2, 3, 4, 5, 12, 16

# photo: the largest change of brightness and of contrast, and the smallest part of the edge that a crop keeps.
_LIGHT_CHANGE, _SMALLEST_CROP = 0.2, 0.8
# Of random erasing: part of the area, and the ratio of the edges (Zhong et al. 2020, with its CIFAR values).
_ERASED_AREA, _ERASED_RATIO = (0.02, 0.4), (0.3, 1 / 0.3)


def augment(images: tf.Tensor, config: TrainConfig, draws: Draws) -> tf.Tensor:
    """Change uint8 [N, S, S, C] training images as the settings say; what is drawn for each comes from ``draws``."""
    if config.mirrors:
        mirrored = draws.uniform(_FLIP) < 0.5
        images = tf.where(mirrored[:, None, None, None], tf.reverse(images, axis=[2]), images)
    if config.largest_shift:
        reach = round(config.largest_shift * images.shape[1])
        moves = draws.integers(_SHIFT, -reach, reach + 1, each=(2,))
        still = tf.eye(2, batch_shape=[tf.shape(images)[0]])
        images = warp(images, still, tf.cast(moves, tf.float32), "NEAREST")
    if config.augment == "photo":
        images = tf.cast(_photo(tf.cast(images, tf.float32), draws), tf.uint8)
    if config.augment == "randaugment":
        changes = (config.randaugment_changes, config.randaugment_magnitude)
        images = tf.cast(randaugment(tf.cast(images, tf.float32), *changes, draws, _RANDAUGMENT), tf.uint8)
    if config.erase:
        images = _erase(images, config.erase, draws)
    return images


def one_view(features: tf.Tensor, views: int, draws: Draws) -> tf.Tensor:
    """Of each example one of its views: float32 [N, V, D] → [N, D]; where there is one, [N, D] as it is."""
    if views == 1:
        return features
    return tf.gather(features, draws.integers(_VIEW, 0, views), axis=1, batch_dims=1)


def _photo(images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """A crop of 0.8 to 1 of the edge, scaled to the whole; then brightness and contrast by 0.8 to 1.2."""
    zoom = draws.uniform(_ZOOM, each=(3,))
    kept = 1 - (1 - _SMALLEST_CROP) * zoom[:, 0]
    room = (1 - kept) * (images.shape[1] - 1) / 2  # on either side of a crop in the middle
    linear = tf.eye(2) * kept[:, None, None]
    images = whole(warp(images, linear, (2 * zoom[:, 1:] - 1) * room[:, None]))
    factors = draws.uniform(_PHOTO, 1 - _LIGHT_CHANGE, 1 + _LIGHT_CHANGE, each=(2,))
    return contrast(brightness(images, factors[:, 0]), factors[:, 1])


def _erase(images: tf.Tensor, probability: float, draws: Draws) -> tf.Tensor:
    """Random erasing (Zhong et al. 2020, https://arxiv.org/abs/1708.04896): a box of some images gets their mean."""
    size = images.shape[1]
    chance = draws.uniform(_ERASE) < probability
    area, ratio, top, left = tf.unstack(draws.uniform(_ERASE_BOX, each=(4,)), axis=1)
    area = (_ERASED_AREA[0] + (_ERASED_AREA[1] - _ERASED_AREA[0]) * area) * size**2
    # The ratio is drawn on a logarithmic scale, so that wide and high boxes are equally frequent.
    low, high = (math.log(bound) for bound in _ERASED_RATIO)
    ratio = tf.exp(low + (high - low) * ratio)
    edges = [tf.clip_by_value(tf.round(tf.sqrt(area * part)), 1, size) for part in (ratio, 1 / ratio)]
    begins = [tf.floor(place * (size - edge + 1)) for place, edge in zip((top, left), edges, strict=True)]
    begins = [tf.minimum(begin, size - edge) for begin, edge in zip(begins, edges, strict=True)]
    box = tf.stack([*begins, *(begin + edge for begin, edge in zip(begins, edges, strict=True))], 1)
    box = tf.where(chance[:, None], tf.cast(box, tf.int32), 0)
    mean = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2], keepdims=True)
    return fill_box(images, box, tf.cast(whole(mean), tf.uint8))
