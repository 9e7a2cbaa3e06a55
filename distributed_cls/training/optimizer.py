"""The optimizer of a run."""

from collections.abc import Sequence

import keras

from distributed_cls.config import TrainConfig
from distributed_cls.training.schedules import learning_rate


def make_optimizer(
    config: TrainConfig, total_steps: int, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer of ``config``, built for the trainable ``variables``, with its rate over ``total_steps``.

    Weight decay is decoupled (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) and leaves out what has fewer
    than two axes: biases, and the scales and shifts of normalisation, which it would only pull to zero.
    """
    rate = learning_rate(config, total_steps)
    if config.optimizer == "sgd":
        decay = config.weight_decay or None
        optimizer = keras.optimizers.SGD(rate, config.momentum, nesterov=config.nesterov, weight_decay=decay)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.Adam(rate)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    if config.mixed_precision:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer
