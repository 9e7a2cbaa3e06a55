"""Ranks that run at different speeds must still cut their graph calls alike."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distributed_cls.training import context as rank_module
from distributed_cls.training.checkpoint import Position
from distributed_cls.training.context import CallSize, Pace
from tests.patience import PATIENCE


class _Sum:
    """``Engine.sum_over_ranks`` between threads: every rank gives its part and gets the whole."""

    def __init__(self, world: int) -> None:
        self._barrier = threading.Barrier(world, timeout=PATIENCE)
        self._parts: list[np.ndarray] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        self._barrier.wait()
        self._parts.append(np.array(values, dtype=float))
        self._barrier.wait()
        whole = np.sum(self._parts, axis=0)
        if self._barrier.wait() == 0:
            self._parts.clear()
        self._barrier.wait()
        return whole


def _rank(number: int, total: _Sum, clock: threading.local, seconds_per_step: float, calls: list[int]) -> Any:
    def train_call(_iterator: object, steps: Any, _batch: object) -> Any:
        calls.append(int(steps))
        clock.now += int(steps) * seconds_per_step
        return SimpleNamespace(numpy=lambda: np.zeros(2, np.float32))

    engine = SimpleNamespace(
        train_call=train_call,
        sum_over_ranks=total,
        replicas_of_this_rank=1,
        optimizer=SimpleNamespace(learning_rate=0.1),
    )
    events = SimpleNamespace(at_step=lambda step: None, emit=lambda *_, **__: None)
    train = SimpleNamespace(batch_size=8, steps_per_call=50, epochs=4)
    return SimpleNamespace(
        engine=engine, events=events, config=SimpleNamespace(train=train), chief=number == 0, batch=4
    )


def test_a_slow_rank_and_a_fast_one_take_calls_of_the_same_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = threading.local()
    monkeypatch.setattr(rank_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    total, calls = _Sum(2), [[], []]
    failures: list[BaseException] = []

    def work(number: int, seconds_per_step: float) -> None:
        clock.now = 0.0
        try:
            pace = Pace(_rank(number, total, clock, seconds_per_step, calls[number]), iterator=None, steps=40)
            for epoch in range(4):
                pace.run_epoch(Position(epoch=epoch, step=40 * epoch))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number, seconds)) for number, seconds in enumerate((0.05, 0.35))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert failures == []
    assert calls[0] == calls[1]
    assert sum(calls[0]) == 160
    # 0.2 s a step on average: calls of about 2 s, after the first step and a guess of five.
    assert calls[0][:3] == [1, 5, 10]


def test_calls_are_neither_empty_nor_longer_than_asked() -> None:
    size = CallSize(most=50)
    assert size.next(3) == 3
    size.settle(0.001)
    assert size.next(1000) == 50
    size.settle(60.0)
    assert size.next(1000) == 1
