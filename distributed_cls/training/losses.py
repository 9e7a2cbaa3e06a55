"""The loss of each example, and how much each class counts in it."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.training.context import RankContext


def class_weights(ctx: RankContext) -> NDArray[np.float32] | None:
    """Of each class in the loss, inverse to its images in the train split: every class then counts the same in all.

    The formula is scikit-learn's "balanced": images / (classes × images of the class). None where all count the same.
    """
    if ctx.config.train.class_weights is None:
        return None
    counts = np.array([ctx.manifest.counts["train"][name] for name in ctx.manifest.classes], np.float64)
    weights: NDArray[np.float32] = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
    return weights


def example_losses(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Cross-entropy of each example, float32 [N]. ``logits`` float32 [N, classes], ``labels`` int64 [N]."""
    if label_smoothing:
        targets = keras.ops.one_hot(labels, logits.shape[-1])
        targets = targets * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
        return keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
    return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def mixed_losses(
    logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float, weights: tf.Tensor | None, *mixed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The losses of ``example_losses``, and the same times the class weights (float32 [classes]): both float32 [N].

    mixed: nothing, or the partners and shares of mixed images (``mixing.Mixed``). Cross-entropy is linear in its
    target, so that the loss of a mixed label is the mixture of two losses.
    """
    losses = example_losses(logits, labels, label_smoothing)
    weighted = losses if weights is None else losses * tf.gather(weights, labels)
    if not mixed:
        return losses, weighted
    partners, shares = mixed
    others, others_weighted = mixed_losses(logits, partners, label_smoothing, weights)
    return shares * losses + (1 - shares) * others, shares * weighted + (1 - shares) * others_weighted
