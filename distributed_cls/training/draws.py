"""Random numbers of augmentation: a function of the seed, the step and an image's place in the global batch."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Draws:
    """The numbers of the images ``own`` of the global batch at ``step`` (int64, of the run).

    Each rank draws the numbers of the whole global batch and takes its own, so that an image is changed in the same way
    on whichever rank it comes. ``purpose`` keeps the numbers of different uses apart.
    """

    seed: int
    step: tf.Tensor
    own: range
    global_batch: int

    def uniform(self, purpose: int, low: float = 0, high: float = 1, *, each: tuple[int, ...] = ()) -> tf.Tensor:
        """float32 [N, *each], from ``low`` to ``high``."""
        drawn = tf.random.stateless_uniform([self.global_batch, *each], self._seed(purpose), low, high)
        return drawn[self.own.start : self.own.stop]

    def integers(self, purpose: int, low: int, high: int, *, each: tuple[int, ...] = ()) -> tf.Tensor:
        """int32 [N, *each], from ``low`` to ``high`` (excluded)."""
        drawn = tf.random.stateless_uniform([self.global_batch, *each], self._seed(purpose), low, high, tf.int32)
        return drawn[self.own.start : self.own.stop]

    def symmetric_beta(self, purpose: int, alpha: float) -> tf.Tensor:
        """float32 [N], of the distribution Beta(alpha, alpha)."""
        # Two gammas make a beta; both may round to zero where alpha is small.
        drawn = tf.random.stateless_gamma([self.global_batch, 2], self._seed(purpose), alpha)
        own = drawn[self.own.start : self.own.stop]
        return tf.math.divide_no_nan(own[:, 0], tf.reduce_sum(own, 1))

    def _seed(self, purpose: int) -> tf.Tensor:
        return tf.stack([tf.cast(self.step, tf.int64), tf.constant(self.seed + purpose * 2**40, tf.int64)])
