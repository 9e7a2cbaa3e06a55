"""The graph of training: a call of several steps, and the step.

Per-example losses are summed and divided by the GLOBAL batch, so that the gradients that the optimizer sums over the
replicas are those of the mean loss over the global batch.

Loops are written out, and AutoGraph is off here as in all of training: to rewrite these few functions and those of the
input takes it longer than TensorFlow needs to trace them, on every rank and at every start.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.config import TrainConfig
from distributed_cls.training.gradients import clip_together, overflow_together
from distributed_cls.training.losses import mixed_losses
from distributed_cls.training.replicated import ReplicatedModel


class TrainGraph:
    """The graph functions of training: a call of several steps, and the step."""

    def __init__(
        self, replicated: ReplicatedModel, config: TrainConfig, weights: NDArray[np.float32] | None = None
    ) -> None:
        """``weights``: of each class in the loss, float32 [classes]; None: all the same."""
        self._replicated, self._config, self._weights = replicated, config, weights
        self._global_batch = tf.constant(float(self._config.batch_size))
        self.train_call = tf.function(self._train_call, autograph=False)

    def learning_rate(self) -> float:
        """Of the next step."""
        return float(np.asarray(self._replicated.optimizer.learning_rate))  # mirrored, where it is constant

    def _train_call(self, iterator: Any, steps: tf.Tensor) -> tf.Tensor:
        """Take ``steps`` training steps; float64 [3]: loss sum and correct count over this rank's own examples, and the
        seconds that this rank computed, those in which it waited for the other ranks not among them.

        Several steps a call: the loop runs inside the graph, which saves a Python round trip per step.
        """
        step_function = self.train_step
        if self._config.jit_compile:
            step_function = tf.function(step_function, jit_compile=True, autograph=False)

        def take(step: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            results = self._replicated.strategy.run(step_function, (self._global_batch, *next(iterator)))
            losses, correct, seconds = [self._replicated.local_results(part) for part in results]
            own = [tf.cast(tf.add_n(losses), tf.float64), tf.cast(tf.add_n(correct), tf.float64)]
            return step + 1, sums + tf.stack([*own, tf.reduce_max(seconds)])

        # In float64 the sum is the same however the steps are cut into calls, which follows the clock.
        start = (tf.constant(0), tf.zeros([3], tf.float64))
        _, sums = tf.while_loop(lambda step, _: step < steps, take, start)
        return sums

    def train_step(
        self, global_batch: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, *mixed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One step of a replica; sum of the losses, count of the right answers, and the seconds from the end of the
        step before to the replica's own gradients: input and computation, before it waits for the others.

        ``images`` uint8 [N, S, S, C] or features float32 [N, D]; ``labels`` int64 [N]; ``mixed``: the partners and
        shares of ``mixing.Mixed``, where images are mixed. Of a mixed one the right answer is the label that has the
        larger share.
        """
        model, optimizer = self._replicated.model, self._replicated.optimizer
        began = self._clock([variable.value for variable in model.trainable_variables])
        gradients, sums = self._in_parts(global_batch, images, labels, *mixed)
        seconds = self._clock(gradients) - began
        if self._config.mixed_precision:
            gradients = overflow_together(gradients)
        if self._config.clip_norm is not None:
            gradients = clip_together(gradients, optimizer.scale_loss(tf.constant(self._config.clip_norm)))
        optimizer.apply(gradients, model.trainable_variables)
        if self._replicated.average is not None:
            self._replicated.average.update(optimizer.iterations.value)
        return sums[0], sums[1], seconds

    def _clock(self, after: list[tf.Tensor | None]) -> tf.Tensor:
        """The time in seconds, float64, at which these values are there; 0 under XLA, which has no clock, and where
        TensorFlow's operations must be repeatable, which refuses it."""
        if self._config.jit_compile or self._config.deterministic:
            return tf.zeros([], tf.float64)
        with tf.control_dependencies([tf.identity(value) for value in after if value is not None]):
            return tf.timestamp()

    def _in_parts(self, global_batch: tf.Tensor, *batch: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What ``_gradients`` gives, summed over ``train.accumulate`` parts of the batch, one after the other."""
        parts = self._config.accumulate
        if parts == 1:
            return self._gradients(global_batch, *batch)
        count = tf.shape(batch[0])[0]

        def add(part: tf.Tensor, gradients: list[tf.Tensor], sums: tf.Tensor) -> tuple[Any, ...]:
            start, stop = part * count // parts, (part + 1) * count // parts
            own, own_sums = self._gradients(global_batch, *[value[start:stop] for value in batch])
            return part + 1, [so_far + new for so_far, new in zip(gradients, own, strict=True)], sums + own_sums

        none = [tf.zeros_like(variable.value) for variable in self._replicated.model.trainable_variables]
        _, gradients, sums = tf.while_loop(lambda part, *_: part < parts, add, (tf.constant(0), none, tf.zeros([2])))
        return gradients, sums

    def _gradients(
        self, global_batch: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, *mixed: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The gradients of the scaled loss of some images; float32 [2]: sum of their losses, count of the right."""
        model, config = self._replicated.computed, self._config
        with tf.GradientTape() as tape:
            logits = model(tf.cast(images, tf.float32), training=True)
            losses, weighted = mixed_losses(logits, labels, config.label_smoothing, self._weights, *mixed)
            loss = tf.reduce_sum(weighted) / global_batch
            if model.losses:  # regularisers: once in all, not once per replica or part
                loss += tf.add_n(model.losses) / (self._replicated.replicas * config.accumulate)
            scaled = self._replicated.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        if mixed:
            partners, shares = mixed
            labels = tf.where(shares < 0.5, partners, labels)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        return gradients, tf.stack([tf.reduce_sum(losses), correct])
