"""Ranks that run at different speeds must still cut their graph calls alike."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from distributed_cls.config import TrainConfig
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.events import FailureKind, Phase
from distributed_cls.training import loop
from distributed_cls.training.loop import Diverged, EpochRunner
from distributed_cls.training.steps_per_call import StepsPerCall
from tests.patience import PATIENCE

from .threads import SumOfThreads


def _context(number: int, total: SumOfThreads, seen: list[Any]) -> Any:
    train = TrainConfig(batch_size=8, steps_per_call=50, epochs=4, learning_rate=0.5, checkpoint_seconds=None)
    return SimpleNamespace(
        replicated=SimpleNamespace(sum_over_ranks=total, local_replicas=1),
        reporter=SimpleNamespace(at_step=lambda step, images, seconds: None, phase=seen.append, send=seen.append),
        config=SimpleNamespace(train=train),
        is_chief=number == 0,
        rank=number,
        world_size=total.world_size,
        lanes=SimpleNamespace(batch_size=4),
        checkpoints=Path("checkpoints"),
        latest=None,
        first_phase=None,
    )


class _Graph:
    """``TrainGraph``, with steps that take as long as the clock is told."""

    def __init__(self, clock: threading.local, seconds_per_step: float, calls: list[int], losses: Any = None) -> None:
        self._clock, self._seconds, self._calls, self._losses = clock, seconds_per_step, calls, losses

    def learning_rate(self) -> float:
        return 0.1

    def train_call(self, _iterator: object, steps: Any) -> Any:
        self._calls.append(int(steps))
        self._clock.now += int(steps) * self._seconds
        loss = next(self._losses) if self._losses else 0.0
        return SimpleNamespace(numpy=lambda: np.array([loss, 0.0, 0.0]))


def test_a_slow_rank_and_a_fast_one_take_calls_of_the_same_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = threading.local()
    monkeypatch.setattr(loop, "TrainGraph", lambda *_: None)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    total, calls = SumOfThreads(2), [[], []]
    failures: list[BaseException] = []

    def work(number: int, seconds_per_step: float) -> None:
        clock.now = 0.0
        try:
            epochs = EpochRunner(_context(number, total, []), iterator=None, steps=40)
            epochs._graph = _Graph(clock, seconds_per_step, calls[number])  # type: ignore[assignment]
            for epoch in range(4):
                epochs.run(Position(epoch=epoch, step=40 * epoch))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number, seconds)) for number, seconds in enumerate((0.025, 0.175))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert failures == []
    assert calls[0] == calls[1]
    assert sum(calls[0]) == 160
    # 0.1 s a step on average: calls of about 1 s, after the first step and a guess of five.
    assert calls[0][:3] == [1, 5, 10]


def test_calls_are_neither_empty_nor_longer_than_asked() -> None:
    size = StepsPerCall(most=50)
    assert size.next(3) == 3
    size.calibrate(0.001)
    assert size.next(1000) == 50
    size.calibrate(60.0)
    assert size.next(1000) == 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_call(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    """Before the epoch ends and before anything of it is reported; the last good checkpoint is named."""
    monkeypatch.setattr(loop, "TrainGraph", lambda *_: None)
    clock, calls, seen = threading.local(), [], []
    clock.now = 0.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    context = _context(0, SumOfThreads(1), seen)
    epochs = EpochRunner(context, iterator=None, steps=40)
    epochs._graph = _Graph(clock, 0.1, calls, iter([1.0, 1.0, loss]))  # type: ignore[assignment]
    with pytest.raises(Diverged) as raised:
        epochs.run(Position(epoch=2, step=80))
    assert calls == [1, 5, 10] and raised.value.failure is FailureKind.DIVERGED
    said = str(raised.value)
    assert "on rank 0 within the steps up to 96 (epoch 3), at train.learning_rate=0.5" in said
    assert "checkpoints/last.npz (step 80)" in said
    reported = [event.step for event in seen if event is not Phase.TRAIN]
    assert reported == [81, 86]
