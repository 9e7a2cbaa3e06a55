"""Crews that wait for the next trial, and what each is told of the others. No Spark, no processes."""

import threading
from typing import Any

import pytest

from distributed_cls.barrier import crew_pool
from distributed_cls.barrier.crew import Crew, Neighbours
from distributed_cls.barrier.crew_pool import CrewHolder, CrewPool
from distributed_cls.config import ClusterConfig

ONE, TWO = ClusterConfig(workers=1), ClusterConfig(workers=2)


class _Stage:
    """Stands for a stage whose agents are all there."""

    def __init__(self, workers: int) -> None:
        self.workers, self.alive = workers, True
        self.heard_of: set[int] = set(range(workers))

    def agents(self) -> set[int]:
        return self.heard_of

    def end(self) -> None:
        self.alive = False


def at_work(holder: CrewHolder, cluster: ClusterConfig) -> tuple[Crew, Any]:
    crew, stage = holder.crew(cluster, ()), _Stage(cluster.workers)
    crew._stage = stage  # type: ignore[assignment]
    return crew, stage


def test_a_crew_is_given_to_the_next_trial_of_the_same_cluster() -> None:
    pool = CrewPool()
    holder = pool.take(ONE, (), lambda: 2)
    crew, stage = at_work(holder, ONE)
    pool.give_back(holder)
    other = pool.take(TWO, (), lambda: 3)
    assert other is not holder and stage.alive  # there are slots for both
    assert pool.take(ONE, (), lambda: 3).crew(ONE, ()) is crew


def test_crews_that_wait_leave_when_a_trial_needs_their_slots() -> None:
    pool = CrewPool()
    stages = []
    for holder in [pool.take(ONE, (), lambda: 2) for _ in range(2)]:
        stages.append(at_work(holder, ONE)[1])
        pool.give_back(holder)
    pool.take(TWO, (), lambda: 3)
    assert [stage.alive for stage in stages] == [False, True]  # the one that has waited for longest
    pool.close()
    assert [stage.alive for stage in stages] == [False, False]


def test_a_crew_is_told_the_slots_of_the_others_and_not_its_own() -> None:
    pool = CrewPool()
    first, second = pool.take(ONE, (), lambda: 4), pool.take(TWO, (), lambda: 4)
    crew, _ = at_work(first, ONE)
    other, _ = at_work(second, TWO)
    assert (crew.slots, crew._neighbours.slots(), other._neighbours.slots()) == (1, 2, 1)
    pool.give_back(second)
    assert crew._neighbours.slots() == 2 and not crew.alone  # it waits, and holds them still
    other.leave()
    assert crew._neighbours.slots() == 0
    crew.leave()
    assert crew.alone
    assert Neighbours().slots() == 0


def test_gpus_are_counted_apart_and_no_crew_that_waits_keeps_them() -> None:
    one_gpu, two_gpus = ClusterConfig(workers=1, gpus_per_worker=1), ClusterConfig(workers=1, gpus_per_worker=2)
    pool = CrewPool()
    waits, plain, holder = (pool.take(cluster, (), lambda: 8) for cluster in (one_gpu, ONE, two_gpus))
    _, stage = at_work(waits, one_gpu)
    assert plain.crew(ONE, ())._neighbours.slots() == 2
    crew = holder.crew(two_gpus, ())
    assert crew._neighbours.slots() == 1  # the one without GPUs holds no slot that this crew could have
    pool.give_back(waits)
    pool.give_back(holder)
    assert pool.take(two_gpus, (), lambda: 8) is holder and stage.alive
    pool.take(ClusterConfig(workers=2, gpus_per_worker=1), (), lambda: 8)
    assert not stage.alive


def test_other_tasks_wait_for_crews_that_start_and_end_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CrewPool()
    mine, starts, waits = (pool.take(ONE, (), lambda: 4) for _ in range(3))
    crew, own = at_work(mine, ONE)
    _, starting = at_work(starts, ONE)
    _, waiting = at_work(waits, ONE)
    pool.give_back(waits)
    starting.heard_of = set()
    looks = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        starting.heard_of = {0} if len(looks) == 3 else set()

    monkeypatch.setattr(crew_pool.time, "sleep", look)
    spark: Any = object()
    with crew.turn():
        assert crew.with_slots(spark) is spark
    assert len(looks) == 3 and (own.alive, starting.alive, waiting.alive) == (False, True, False)


def test_the_turn_is_one_trials_at_a_time() -> None:
    pool = CrewPool()
    crews = [pool.take(ONE, (), lambda: 4).crew(ONE, ()) for _ in range(2)]
    within, entered = threading.Event(), threading.Event()

    def enter() -> None:
        within.set()
        with crews[1].turn():
            entered.set()

    with crews[0].turn():
        thread = threading.Thread(target=enter)
        thread.start()
        assert within.wait(60) and not entered.wait(0.05)
    assert entered.wait(60)
    thread.join()
