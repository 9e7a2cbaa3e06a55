"""The graph of training: a call of several steps, and the step.

Per-example losses are summed and divided by the GLOBAL batch, so that the gradients that the optimizer sums over the
replicas are those of the mean loss over the global batch.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.config import TrainConfig
from distributed_cls.training.gradients import clip_together, overflow_together
from distributed_cls.training.losses import example_losses
from distributed_cls.training.replicated import ReplicatedModel


class TrainGraph:
    """The graph functions of training: a call of several steps, and the step."""

    def __init__(
        self, replicated: ReplicatedModel, config: TrainConfig, weights: NDArray[np.float32] | None = None
    ) -> None:
        """``weights``: of each class in the loss, float32 [classes]; None: all the same."""
        self._replicated, self._config, self._weights = replicated, config, weights
        self._global_batch = tf.constant(float(self._config.batch_size))
        self.train_call = tf.function(self._train_call)

    def learning_rate(self) -> float:
        """Of the next step."""
        return float(np.asarray(self._replicated.optimizer.learning_rate))  # mirrored, where it is constant

    def _train_call(self, iterator: Any, steps: tf.Tensor) -> tf.Tensor:
        """Take ``steps`` training steps; float64 [2]: loss sum and correct count over this rank's own examples.

        Several steps a call: the loop runs inside the graph, which saves a Python round trip per step.
        """
        step_function = self.train_step
        if self._config.jit_compile:
            step_function = tf.function(step_function, jit_compile=True)
        # In float64 the sum is the same however the steps are cut into calls, which follows the clock.
        sums = tf.zeros([2], tf.float64)
        for _ in tf.range(steps):
            images, labels = next(iterator)
            results = self._replicated.strategy.run(step_function, (images, labels, self._global_batch))
            sums += tf.cast(tf.stack([tf.add_n(self._replicated.local_results(part)) for part in results]), tf.float64)
        return sums

    def train_step(self, images: tf.Tensor, labels: tf.Tensor, global_batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of a replica. ``images`` uint8 [N, S, S, 3], ``labels`` int64 [N]; loss sum and correct count."""
        model, optimizer = self._replicated.model, self._replicated.optimizer
        with tf.GradientTape() as tape:
            logits = model(tf.cast(images, tf.float32), training=True)
            losses = example_losses(logits, labels, self._config.label_smoothing)
            weighted = losses if self._weights is None else losses * tf.gather(self._weights, labels)
            loss = tf.reduce_sum(weighted) / global_batch
            if model.losses:  # regularisers: once in all, not once per replica
                loss += tf.add_n(model.losses) / self._replicated.replicas
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        if self._config.mixed_precision:
            gradients = overflow_together(gradients)
        if self._config.clip_norm is not None:
            gradients = clip_together(gradients, optimizer.scale_loss(tf.constant(self._config.clip_norm)))
        optimizer.apply(gradients, variables)
        if self._replicated.average is not None:
            self._replicated.average.update(optimizer.iterations.value)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        return tf.reduce_sum(losses), correct
