"""The graph functions of a rank: train steps, evaluation steps, and the sums over all ranks.

``Model.fit`` does not work for Keras 3 under MultiWorkerMirroredStrategy (keras#20585), so this loop is our own, on
Keras's public API: per-example losses, summed and divided by the GLOBAL batch, so that the gradients that the
optimizer sums over the replicas are those of the mean loss over the global batch.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed_cls.config import TrainConfig

TOP_K = 5


def make_optimizer(config: TrainConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of ``config`` with its learning-rate schedule over ``total_steps``."""
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        warmup = round(config.warmup_fraction * total_steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else config.learning_rate,
            decay_steps=max(1, total_steps - warmup),
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=config.momentum)
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    return keras.optimizers.Adam(rate)


def _statistics(model: keras.Model) -> list[keras.Variable]:
    """What training changes without the optimizer: BatchNorm's moving statistics, not those of frozen layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _statistics(layer)
        elif layer.trainable:
            found += [v for v in layer.non_trainable_variables if v.dtype.startswith(("float", "bfloat"))]
    return found


def _overflow_together(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Gradients that are NaN on every replica once they overflow on one.

    The loss-scaling optimizer skips such a step, and looks at its own replica's gradients alone: ranks that skip and
    ranks that do not would wait for each other in the next all-reduce.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    context = tf.distribute.get_replica_context()
    overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32))
    factor = tf.where(overflows > 0, float("nan"), 1.0)
    return [gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]


class Engine:
    """One rank's share of a distributed model: its variables are mirrored over all replicas of all ranks."""

    def __init__(
        self, strategy: tf.distribute.Strategy, build: Callable[[], keras.Model], config: TrainConfig, total_steps: int
    ) -> None:
        self.strategy = strategy
        self.config = config
        with strategy.scope():
            self.model = build()
            self.optimizer = make_optimizer(config, total_steps)
            if config.mixed_precision:
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
            self.optimizer.build(self.model.trainable_variables)
        self.replicas = strategy.num_replicas_in_sync
        self._statistics = _statistics(self.model)
        self.train_call = tf.function(self._train_call)
        self.evaluate_call = tf.function(self._evaluate_call)
        self._all_reduce = tf.function(self._sum_over_replicas)
        self.average_statistics = tf.function(self._average_statistics)

    def distribute(self, dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
        """This rank's own batches (one element per local replica), as the strategy's input."""
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    # ── training ────────────────────────────────────────────────────────────────────────────────────────────

    def _losses(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of each example, float32 [N]."""
        if self.config.label_smoothing:
            targets = keras.ops.one_hot(labels, logits.shape[-1])
            targets = targets * (1 - self.config.label_smoothing) + self.config.label_smoothing / logits.shape[-1]
            return keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
        return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def _train_step(self, images: tf.Tensor, labels: tf.Tensor, global_batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = self.model(tf.cast(images, tf.float32), training=True)
            losses = self._losses(logits, labels)
            loss = tf.reduce_sum(losses) / global_batch
            if self.model.losses:  # regularisers: once in all, not once a replica
                loss += tf.add_n(self.model.losses) / self.replicas
            scaled = self.optimizer.scale_loss(loss)
        variables = self.model.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        if self.config.mixed_precision:
            gradients = _overflow_together(gradients)
        self.optimizer.apply(gradients, variables)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        return tf.reduce_sum(losses), correct

    def _train_call(self, iterator: Any, steps: tf.Tensor, global_batch: tf.Tensor) -> tf.Tensor:
        """Take ``steps`` training steps; float64 [2]: loss sum and correct count over this rank's own examples.

        Several steps a call: the loop runs inside the graph, which saves a Python round trip a step.
        """
        step_function = self._train_step
        if self.config.jit_compile:
            step_function = tf.function(step_function, jit_compile=True)
        # In float64 the sum is the same however the steps are dealt into calls, which follows the clock.
        sums = tf.zeros([2], tf.float64)
        for _ in tf.range(steps):
            images, labels = next(iterator)
            losses, correct = self.strategy.run(step_function, (images, labels, global_batch))
            sums += tf.cast(tf.stack([self._local_sum(losses), self._local_sum(correct)]), tf.float64)
        return sums

    def _local_sum(self, value: Any) -> tf.Tensor:
        return tf.add_n(self.strategy.experimental_local_results(value))

    # ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────

    def _evaluate_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = tf.cast(self.model(tf.cast(images, tf.float32), training=False), tf.float32)
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        likeliest = min(TOP_K, logits.shape[-1])
        shares, classes = tf.math.top_k(tf.nn.softmax(logits), likeliest)
        return classes, shares, losses, tf.math.in_top_k(labels, logits, likeliest)

    def _evaluate_call(self, iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """``steps`` batches of this rank, each result [steps, rank batch, …].

        Label, weight, the likeliest classes [.., ≤ 5] and their probabilities [.., ≤ 5], loss, and whether the label is
        among the top five.
        """
        kinds = (tf.int64, tf.float32, tf.int32, tf.float32, tf.float32, tf.bool)  # as in the docstring
        columns = [tf.TensorArray(kind, size=steps) for kind in kinds]
        for step in tf.range(steps):
            images, labels, weights = next(iterator)
            results = self.strategy.run(self._evaluate_step, (images, labels))
            row = [tf.concat(self.strategy.experimental_local_results(v), 0) for v in (labels, weights, *results)]
            columns = [column.write(step, value) for column, value in zip(columns, row, strict=True)]
        return tuple(column.stack() for column in columns)

    # ── over all ranks ──────────────────────────────────────────────────────────────────────────────────────

    def sum_over_ranks(self, values: np.ndarray) -> np.ndarray:
        """The sum of ``values`` (float64, any shape) over the ranks: exact for whole numbers below 2^53."""
        local = self.replicas_of_this_rank

        def once_a_rank(context: Any) -> tf.Tensor:
            own = context.replica_id_in_sync_group % local == 0
            return tf.constant(values if own else np.zeros_like(values), tf.float64)

        distributed = self.strategy.experimental_distribute_values_from_function(once_a_rank)
        return self._all_reduce(distributed).numpy()

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self.sum_over_ranks(np.zeros(1))

    def _sum_over_replicas(self, values: Any) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    @property
    def replicas_of_this_rank(self) -> int:
        return len(self.strategy.extended.worker_devices)

    def _average_statistics(self) -> None:
        """Set BatchNorm's moving statistics to their mean over all replicas.

        In a custom loop under Keras 3 each replica keeps its own; without this, ranks evaluate different models.
        """
        if not self._statistics:
            return

        def average() -> None:
            context = tf.distribute.get_replica_context()
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.identity(v.value) for v in self._statistics])
            for variable, mean in zip(self._statistics, means, strict=True):
                variable.assign(mean)

        self.strategy.run(average)

    def vary_dropout(self, rank: int) -> None:
        """Give each rank dropout masks of its own. All start from the seeds of rank 0, which checkpoints hold."""
        for variable in self.model.non_trainable_variables:
            if variable.name == "seed_generator_state":
                seed = np.array(variable)
                seed[0] += rank
                variable.assign(seed)

    # ── state ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that a resumed run needs: weights, statistics, dropout seeds, optimizer slots, step count."""
        return [*self.model.variables, *self.optimizer.variables]
