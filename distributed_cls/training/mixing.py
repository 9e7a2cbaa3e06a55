"""Mixing of training images with others of their batch: mixup and CutMix.

The partner of an image is the one before it in its slice of its lane, so that every rank has both, and any number of
ranks makes the same pairs. The images of a slice come in a random order, and so does the pair.
"""

from typing import NamedTuple

import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.draws import Draws
from distributed_cls.training.pixel_changes import fill_box

# What the numbers are drawn for: after those of ``augment.py``.
_MIXUP, _CUTMIX, _CENTRE, _EITHER = 8, 9, 10, 11


class Mixed(NamedTuple):
    """A batch of mixed images: uint8 [N, S, S, C], and of what they were made."""

    images: tf.Tensor
    labels: tf.Tensor  # int64 [N]
    partners: tf.Tensor  # labels of the other images, int64 [N]
    shares: tf.Tensor  # float32 [N]: how much of the label is ``labels``; the rest is ``partners``


def mix(images: tf.Tensor, labels: tf.Tensor, config: TrainConfig, draws: Draws, slice_size: int) -> Mixed:
    """Mix each image with its partner, as ``config.mixup`` or ``config.cutmix`` says; where both do, by either.

    ``slice_size``: images of a lane in the batch, which has whole slices.
    """
    others, partners = _previous(images, slice_size), _previous(labels, slice_size)
    if not config.cutmix:
        weights = draws.symmetric_beta(_MIXUP, config.mixup)
        return Mixed(_blend(images, others, weights), labels, partners, weights)
    box, kept = _box(config.cutmix, draws, images.shape[1])
    pasted = fill_box(images, box, others)
    if not config.mixup:
        return Mixed(pasted, labels, partners, kept)
    cut, weights = draws.uniform(_EITHER) < 0.5, draws.symmetric_beta(_MIXUP, config.mixup)
    either = tf.where(cut[:, None, None, None], pasted, _blend(images, others, weights))
    return Mixed(either, labels, partners, tf.where(cut, kept, weights))


def _previous(values: tf.Tensor, slice_size: int) -> tf.Tensor:
    """[N, …]: of each the one before it in its slice, of the first the last."""
    slices = tf.reshape(values, [-1, slice_size, *values.shape[1:]])
    return tf.reshape(tf.roll(slices, 1, axis=1), tf.shape(values))


def _blend(images: tf.Tensor, others: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): a weighted mean, rounded to whole values."""
    weights = weights[:, None, None, None]
    blend = weights * tf.cast(images, tf.float32) + (1 - weights) * tf.cast(others, tf.float32)
    return tf.cast(tf.round(blend), tf.uint8)


def _box(alpha: float, draws: Draws, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): boxes int32 [N, 4], and the parts outside of them.

    A box has the shape of the image and its centre anywhere; what lies beyond the border is cut off.
    """
    edge = tf.cast(size * tf.sqrt(1 - draws.symmetric_beta(_CUTMIX, alpha)), tf.int32)[:, None]
    begins = draws.integers(_CENTRE, 0, size, each=(2,)) - edge // 2
    box = tf.clip_by_value(tf.concat([begins, begins + edge], 1), 0, size)
    height, width = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    return box, 1 - tf.cast(height * width, tf.float32) / size**2
