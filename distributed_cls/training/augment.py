"""Augmentation of training batches, on stateless random numbers so that a resumed run repeats it."""

import tensorflow as tf

from distributed_cls.config import TrainConfig


def augment(images: tf.Tensor, config: TrainConfig, position: tf.Tensor) -> tf.Tensor:
    """Mirror and shift uint8 [N, S, S, 3] images. ``position``: int64 [2], the step and the rank, unique in a run."""
    seed = tf.stack([position[0] * 2**20 + position[1], tf.constant(config.seed, tf.int64)])
    if config.flip:
        mirrored = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
        images = tf.where(mirrored, tf.reverse(images, axis=[2]), images)
    if config.shift:
        images = _shift(images, config.shift, seed + tf.constant([0, 2**40], tf.int64))
    return images


def _shift(images: tf.Tensor, fraction: float, seed: tf.Tensor) -> tf.Tensor:
    """Move each image by up to ``fraction`` of its edge, whole pixels; the border repeats outwards."""
    count, size = tf.shape(images)[0], images.shape[1]
    reach = round(fraction * size)
    moves = tf.cast(tf.random.stateless_uniform([count, 2], seed, -reach, reach + 1, tf.int32), tf.float32)
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
