"""Which rank is slow, from heartbeats by a clock that the test moves."""

import itertools
import random
from types import SimpleNamespace

import pytest

from distributed_cls.barrier import slow_ranks
from distributed_cls.barrier.slow_ranks import SlowRanks
from distributed_cls.contracts.events import Heartbeat


def _named(
    monkeypatch: pytest.MonkeyPatch, paces: list[list[float]], images: list[int], seconds_per_step: float = 0.1
) -> list[tuple[int, float]]:
    """What is named when each rank sends a heartbeat every 2 s. ``paces``: of each window of 10 s, each rank's seconds
    for an image; ``images``: of each rank in a step."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(slow_ranks, "time", SimpleNamespace(monotonic=lambda: clock.now))
    compared, steps = SlowRanks(len(images)), 0.0
    done, spent = [0] * len(images), [0.0] * len(images)
    found = []
    for window, _ in itertools.product(paces, range(5)):
        before, steps = int(steps), steps + 2 / seconds_per_step
        for rank, pace in enumerate(window):
            new = (int(steps) - before) * images[rank]
            done[rank] += new
            spent[rank] += new * pace
            heartbeat = Heartbeat(rank=rank, step=int(steps), images=done[rank], seconds=spent[rank])
            found += [named] if (named := compared.update(heartbeat)) else []
        clock.now += 2
    return found


def test_a_rank_that_is_steadily_slower_is_named_once_with_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(1)
    paces = [[noise.uniform(0.9, 1.1) * pace for pace in (1e-3, 3e-3, 1e-3)] for _ in range(10)]
    [(rank, factor)] = _named(monkeypatch, paces, [8, 8, 16])
    assert rank == 1
    assert factor == pytest.approx(3, rel=0.15)


def test_two_slow_ranks_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named = _named(monkeypatch, [[1e-3, 2e-3, 4e-3, 1e-3, 1e-3]] * 10, [8] * 5)
    assert named == [(2, pytest.approx(4)), (1, pytest.approx(2))]


def test_ranks_with_more_images_a_slow_moment_and_a_small_difference_are_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _named(monkeypatch, [[1e-3, 1e-3]] * 8, [8, 24]) == []
    assert _named(monkeypatch, [[1e-3, 1e-3], [1e-3, 9e-3], [1e-3, 9e-3], [1e-3, 1e-3]] * 3, [8, 8]) == []
    assert _named(monkeypatch, [[1e-3, 9e-3], [9e-3, 1e-3]] * 6, [8, 8]) == []
    assert _named(monkeypatch, [[1e-3, 1.3e-3]] * 8, [8, 8]) == []


def test_long_steps_are_compared_over_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _named(monkeypatch, [[1.0, 2.0]] * 40, [8, 8], seconds_per_step=25.0) == [(1, pytest.approx(2))]


def test_one_rank_and_ranks_without_a_measure_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _named(monkeypatch, [[1.0]] * 8, [8]) == []
    assert _named(monkeypatch, [[0.0, 0.0]] * 8, [8, 8]) == []
