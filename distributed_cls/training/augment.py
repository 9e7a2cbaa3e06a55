"""Augmentation of training batches, on stateless random numbers so that a resumed run repeats it."""

import tensorflow as tf

from distributed_cls.config import TrainConfig


def augment(images: tf.Tensor, config: TrainConfig, step: tf.Tensor, own: range, global_batch: int) -> tf.Tensor:
    """Mirror and shift uint8 [N, S, S, C] images: those with the numbers ``own`` of the global batch at ``step``.

    step: int64, of the run. Each rank draws the numbers of the whole global batch and takes its own, so that an image
    is changed in the same way on whichever rank it comes.
    """
    seed = tf.stack([tf.cast(step, tf.int64), tf.constant(config.seed, tf.int64)])
    if config.flip:
        chance = tf.random.stateless_uniform([global_batch], seed)[own.start : own.stop]
        images = tf.where((chance < 0.5)[:, None, None, None], tf.reverse(images, axis=[2]), images)
    if config.shift:
        reach = round(config.shift * images.shape[1])
        shift_seed = seed + tf.constant([0, 2**40], tf.int64)
        moves = tf.random.stateless_uniform([global_batch, 2], shift_seed, -reach, reach + 1, tf.int32)
        images = _shift(images, moves[own.start : own.stop])
    return images


def _shift(images: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """Move each image by whole pixels, ``moves`` int32 [N, 2]; the border repeats outwards."""
    count, size = tf.shape(images)[0], images.shape[1]
    moves = tf.cast(moves, tf.float32)
    ones, zeros = tf.ones([count]), tf.zeros([count])
    transforms = tf.stack([ones, zeros, moves[:, 0], zeros, ones, moves[:, 1], zeros, zeros], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.constant([size, size]),
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="NEAREST",
    )
