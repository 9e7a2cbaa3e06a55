"""The running average of a model's weights over the steps of a run (Polyak & Juditsky 1992, in exponential form)."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


class WeightAverage:
    """An average beside each of ``variables``: after every step it moves towards the variable by 1 - decay.

    In the first steps the decay is (1 + step) / (10 + step) where that is less, as TensorFlow's
    ExponentialMovingAverage has it: the random initial weights are soon forgotten. Make it inside the strategy's scope.
    """

    def __init__(self, variables: Sequence[keras.Variable], decay: float) -> None:
        self.of, self._decay = list(variables), decay
        # Of the same names, so that a checkpoint can hold the averages in the place of the weights.
        self.averages = [
            keras.Variable(np.asarray(variable), dtype=variable.dtype, trainable=False, name=variable.name)
            for variable in self.of
        ]

    def update(self, step: tf.Tensor) -> None:
        """Take in the weights after ``step`` steps (any number type). In replica context: each has its own copy."""
        step = tf.cast(step, tf.float32)
        share = 1 - tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, variable in zip(self.averages, self.of, strict=True):
            before, now = average.value, tf.convert_to_tensor(variable.value)
            before.assign_add(tf.cast(share, now.dtype) * (now - before))

    def exchange(self) -> None:
        """Put the averages in the variables' place, and the other way round. In replica context."""
        weights = [tf.identity(variable.value) for variable in self.of]
        averages = [tf.identity(average.value) for average in self.averages]
        for variable, average, weight, mean in zip(self.of, self.averages, weights, averages, strict=True):
            variable.value.assign(mean)
            average.value.assign(weight)

    def in_place_of(self, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
        """``variables`` with each average in the place of what it is the average of."""
        found = {id(variable): average for variable, average in zip(self.of, self.averages, strict=True)}
        return [found.get(id(variable), variable) for variable in variables]
