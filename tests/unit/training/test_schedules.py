"""Learning rates and the updates of the optimizers, against formulas in NumPy."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from distributed_cls.config import TrainConfig
from distributed_cls.errors import UserError
from distributed_cls.training.optimizer import make_optimizer
from distributed_cls.training.schedules import learning_rate

TOTAL = 200


def _rates(**settings: Any) -> np.ndarray:
    schedule = learning_rate(TrainConfig(learning_rate=0.4, **settings), TOTAL)
    return np.array([float(schedule(step)) for step in range(TOTAL + 1)])


def test_one_cycle() -> None:
    """Up from a 25th of the peak in three tenths of the steps, then down to a ten-thousandth of it."""
    up = 0.4 + (0.4 / 25 - 0.4) * (1 + np.cos(math.pi * np.arange(60) / 60)) / 2
    down = 0.4e-4 + (0.4 - 0.4e-4) * (1 + np.cos(math.pi * np.arange(141) / 140)) / 2
    found = _rates(schedule="one_cycle", warmup_fraction=0.3)
    np.testing.assert_allclose(found, np.concatenate([up, down]), rtol=1e-5, atol=1e-7)
    assert found.argmax() == 60


def test_steps() -> None:
    expected = 0.4 * np.minimum(1, np.arange(TOTAL + 1) / 20)
    expected[100:] *= 0.5
    expected[150:] *= 0.5
    found = _rates(schedule="step", warmup_fraction=0.1, decay_at=[0.5, 0.75], decay_factor=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert _rates(schedule="step", warmup_fraction=0)[0] == pytest.approx(0.4)


def test_the_rate_grows_with_the_batch_where_that_is_wanted() -> None:
    for schedule in ("constant", "cosine", "one_cycle", "step"):
        plain = TrainConfig(schedule=schedule, batch_size=512, learning_rate=0.4)
        scaled = TrainConfig(schedule=schedule, batch_size=512, learning_rate=0.1, scale_rate_from=128)
        ours, theirs = (
            [float(rate(step) if callable(rate) else rate) for step in (0, 5, 77, 200)]
            for rate in (learning_rate(scaled, TOTAL), learning_rate(plain, TOTAL))
        )
        assert ours == theirs


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_decay_of_kernels_alone(nesterov: bool) -> None:
    """Two steps by hand: v = 0.9 v - rate g, w += v (Nesterov: w += 0.9 v - rate g); kernels shrink by rate x decay."""
    rate, decay = 0.5, 0.01
    random = np.random.default_rng(0)
    start = [random.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))]
    gradients = [[random.normal(size=part.shape).astype(np.float32) for part in start] for _ in range(2)]
    config = TrainConfig(
        optimizer="sgd", schedule="constant", learning_rate=rate, momentum=0.9, nesterov=nesterov, weight_decay=decay
    )
    variables = [keras.Variable(part) for part in start]
    optimizer = make_optimizer(config, 10, variables)
    for step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in step], variables)
    for index, variable in enumerate(variables):
        value, velocity = start[index].astype(float), 0.0
        for step in gradients:
            if index == 0:  # the kernel
                value = value * (1 - rate * decay)
            velocity = 0.9 * velocity - rate * step[index]
            value = value + (0.9 * velocity - rate * step[index] if nesterov else velocity)
        np.testing.assert_allclose(np.asarray(variable), value, rtol=1e-5)


def test_adamw_decays_kernels_alone() -> None:
    config = TrainConfig(optimizer="adamw", schedule="constant", learning_rate=0.5, weight_decay=0.1)
    kernel, bias = keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(2))
    optimizer = make_optimizer(config, 10, [kernel, bias])
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
    np.testing.assert_allclose(np.asarray(kernel), 0.95)
    np.testing.assert_allclose(np.asarray(bias), 1.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"weight_decay": 0.1}, "train.weight_decay to be 0 with optimizer=adam.*Set train.optimizer=adamw"),
        ({"nesterov": True, "optimizer": "adamw"}, "train.nesterov to be false with optimizer=adamw"),
        ({"schedule": "step", "decay_at": [1.5]}, "train.decay_at"),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        TrainConfig(**settings)
