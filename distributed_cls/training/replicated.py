"""A model whose variables are mirrored over all replicas of all ranks, and what the ranks compute together."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.config import TrainConfig
from distributed_cls.models.pretrained import head_of
from distributed_cls.training.memory import keep_freed_memory
from distributed_cls.training.optimizer import make_optimizer
from distributed_cls.training.weight_average import WeightAverage


class ReplicatedModel:
    """This rank's part of a distributed model: the Keras model, its optimizer, and sums over all ranks."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        build: Callable[[], keras.Model],
        config: TrainConfig,
        total_steps: int,
        on_features: bool = False,
    ) -> None:
        """``on_features``: batches are what the frozen backbone gave for images, not images."""
        self.strategy = strategy
        # All ranks have the same number of whole batches. TensorFlow would have them ask each other before each batch
        # whether there is one: a collective too many, and one in evaluation, whose calls a rank cuts by its own clock.
        strategy.extended.experimental_enable_get_next_as_optional = False
        with strategy.scope():
            self.model = build()
            # What a batch goes through. Its variables are those of the model, which alone is saved and exported.
            self.computed = head_of(self.model) if on_features else self.model
            if config.sync_batch_norm:
                _synchronise_batch_norm(self.model)
            self.optimizer = make_optimizer(config, total_steps, self.model.trainable_variables)
            self._statistics = _moving_statistics(self.model)
            self.average: WeightAverage | None = None
            if config.ema is not None:
                trained = [*self.model.trainable_variables, *self._statistics]
                self.average = WeightAverage(trained, config.ema)
                # An average of statistics is a statistic too: each replica has its own.
                self._statistics += self.average.averages[len(self.model.trainable_variables) :]
        self.replicas: int = strategy.num_replicas_in_sync  # of all ranks
        self._all_reduce = tf.function(self._sum_over_replicas, autograph=False)
        self.average_statistics = tf.function(self._average_statistics, autograph=False)
        self._exchange = tf.function(self._exchange_with_averages, autograph=False)

    @property
    def local_replicas(self) -> int:
        """The replicas of this rank: one, or one per GPU."""
        return len(self.strategy.extended.worker_devices)

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that a resumed run needs: weights, statistics, dropout seeds, optimizer slots, step count."""
        averages = self.average.averages if self.average else []
        return [*self.model.variables, *self.optimizer.variables, *averages]

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        """Weights and statistics that no training step changes: those of frozen layers."""
        return _of_frozen_layers(self.model)

    @property
    def judged_variables(self) -> list[keras.Variable]:
        """The model's variables as validation sees them: averages in the place of weights where there are any."""
        every: list[keras.Variable] = self.model.variables
        return self.average.in_place_of(every) if self.average else every

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the model has its averaged weights, where they are averaged."""
        if self.average is None:
            yield
            return
        self._exchange()
        yield
        self._exchange()

    def _exchange_with_averages(self) -> None:
        assert self.average is not None
        self.strategy.run(self.average.exchange)

    def distribute(self, dataset: tf.data.Dataset) -> tf.distribute.DistributedDataset:
        """This rank's own batches (one element per local replica), as the strategy's input."""
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    def iterate(self, distributed: tf.distribute.DistributedDataset) -> tf.distribute.DistributedIterator:
        """An iterator over what ``distribute`` gave."""
        iterator = iter(distributed)
        keep_freed_memory()
        return iterator

    def local_results(self, value: Any) -> tuple[tf.Tensor, ...]:
        """What ``strategy.run`` gave on each replica of this rank."""
        return tuple(self.strategy.experimental_local_results(value))

    def sum_over_ranks(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of ``values`` (float64, any shape) over the ranks: exact for whole numbers below 2^53."""

        def once_per_rank(context: Any) -> tf.Tensor:
            own = context.replica_id_in_sync_group % self.local_replicas == 0
            return tf.constant(values if own else np.zeros_like(values), tf.float64)

        distributed = self.strategy.experimental_distribute_values_from_function(once_per_rank)
        summed: NDArray[np.float64] = self._all_reduce(distributed).numpy()
        return summed

    def gather(self, values: NDArray[np.float64], rank: int, world_size: int) -> NDArray[np.float64]:
        """``values`` (float64 [n]) of every rank, bit for bit: float64 [ranks, n]."""
        rows = np.zeros((world_size, len(values)))
        rows[rank] = values
        return self.sum_over_ranks(rows)

    def concatenate(self, values: NDArray[np.float64], rank: int, world_size: int) -> NDArray[np.float64]:
        """``values`` (float64 [n], of another length on each rank) of all ranks one after the other, bit for bit."""
        sizes = np.rint(self.gather(np.array([float(len(values))]), rank, world_size)[:, 0]).astype(int)
        whole, start = np.zeros(sizes.sum()), sizes[:rank].sum()
        whole[start : start + len(values)] = values
        return self.sum_over_ranks(whole)

    def statistics(self) -> NDArray[np.float64]:
        """BatchNorm's moving statistics on this rank, float64 [n]. Within an epoch every rank has its own."""
        flat = [np.asarray(variable, np.float64).ravel() for variable in self._statistics]
        return np.concatenate(flat) if flat else np.zeros(0)

    def set_statistics(self, values: NDArray[np.float32]) -> None:
        """Set what ``statistics`` gives."""
        start = 0
        for variable in self._statistics:
            size = int(np.prod(variable.shape))
            variable.assign(values[start : start + size].reshape(variable.shape))
            start += size

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self.sum_over_ranks(np.zeros(1))

    def _sum_over_replicas(self, values: Any) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

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


def _synchronise_batch_norm(model: keras.Model) -> None:
    """Let BatchNorm take its moments over all replicas; set here, so that the exported model knows nothing of it."""
    for layer in _leaves(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def _of_frozen_layers(model: keras.Model) -> list[keras.Variable]:
    """The numbers that frozen layers compute with; the seeds of their random layers may change."""
    frozen = (layer for layer in _leaves(model) if not layer.trainable)
    return [variable for layer in frozen for variable in layer.variables if _is_float(variable)]


def _moving_statistics(model: keras.Model) -> list[keras.Variable]:
    """What training changes without the optimizer: BatchNorm's moving statistics, not those of frozen layers."""
    trained = (layer for layer in _leaves(model) if layer.trainable)
    return [variable for layer in trained for variable in layer.non_trainable_variables if _is_float(variable)]


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of ``model`` and of the models in it, in their order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _is_float(variable: keras.Variable) -> bool:
    return str(variable.dtype).startswith(("float", "bfloat"))
