"""Learning rates over the steps of a run."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from distributed_cls.config import TrainConfig

# Smith & Topin 2018 (https://arxiv.org/abs/1708.07120), in the cosine form and with the ratios that are usual today.
_ONE_CYCLE_START, _ONE_CYCLE_END = 1 / 25, 1e-4


def learning_rate(config: TrainConfig, total_steps: int) -> Any:
    """The rate of ``config`` over ``total_steps``: a number when it is constant, otherwise a Keras schedule."""
    peak, warmup = config.peak_rate, round(config.warmup_fraction * total_steps)
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else peak,
            decay_steps=max(1, total_steps - warmup),
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
    if config.schedule == "one_cycle":
        return OneCycle(peak, warmup, total_steps)
    if config.schedule == "step":
        return Steps(peak, warmup, [round(part * total_steps) for part in config.decay_at], config.decay_factor)
    return peak


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine wave from a 25th of ``peak`` up to it, then one down to a ten-thousandth of it."""

    def __init__(self, peak: float, warmup: int, total_steps: int) -> None:
        self._peak, self._warmup, self._total = peak, warmup, total_steps

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        up = _cosine(step / max(1, self._warmup), self._peak * _ONE_CYCLE_START, self._peak)
        down = (step - self._warmup) / max(1, self._total - self._warmup)
        return keras.ops.where(step < self._warmup, up, _cosine(down, self._peak, self._peak * _ONE_CYCLE_END))


def _cosine(share: Any, start: float, end: float) -> Any:
    """From ``start`` at 0 to ``end`` at 1, along half a cosine wave."""
    share = keras.ops.clip(share, 0.0, 1.0)
    return end + (start - end) * 0.5 * (1 + keras.ops.cos(math.pi * share))


class Steps(keras.optimizers.schedules.LearningRateSchedule):
    """A straight line up to ``peak``, which is multiplied by ``factor`` at each of the steps ``borders``."""

    def __init__(self, peak: float, warmup: int, borders: Sequence[int], factor: float) -> None:
        self._peak, self._warmup, self._borders, self._factor = peak, warmup, borders, factor

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rate = self._peak * keras.ops.minimum(1.0, step / self._warmup if self._warmup else 1.0)
        for border in self._borders:
            rate = keras.ops.where(step >= border, rate * self._factor, rate)
        return rate
