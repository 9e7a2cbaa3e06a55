"""Trials in threads of their own: followed at once, and all told to end when one thread's signal comes."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import EndRequested
from distributed_cls.spark.interruptible import Interruption, run_interruptibly
from launch import logs
from launch.admission import BusySlots, Need
from launch.side_by_side import Running, SideBySide, Waiting

PATIENCE = 60.0


class Told:
    """Stands for a trial that is told to end."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def interrupt(self) -> None:
        self.ended.set()


Run = Callable[[Callable[[], None]], float | None]


def waiting(number: int, run: Run, ends: dict[int, Any], trial: Any = None) -> Waiting:
    return Waiting(
        number, Need(1), ClusterConfig(workers=1), lambda: Running(trial, run, lambda got: ends.update({number: got}))
    )


def side_by_side(slots: int, limit: int | None = None) -> SideBySide:
    return SideBySide(limit, lambda gpus: slots, lambda cluster: True, BusySlots())


def test_a_trial_that_ends_is_followed_while_the_one_beside_it_goes_on() -> None:
    ends: dict[int, Any] = {}
    last_began = threading.Event()

    def first(free: Callable[[], None]) -> float:
        assert last_began.wait(PATIENCE)  # which begins only when those between have ended
        return 0.25

    def last(free: Callable[[], None]) -> None:
        last_began.set()

    runs: list[Run] = [first, lambda free: 0.5, lambda free: 0.75, last]
    side_by_side(2).run(waiting(number, run, ends) for number, run in enumerate(runs))
    assert ends == {0: 0.25, 1: 0.5, 2: 0.75, 3: None}


def test_a_trial_whose_slots_are_free_is_followed_while_it_writes_its_report() -> None:
    ends: dict[int, Any] = {}
    next_began = threading.Event()

    def with_report(free: Callable[[], None]) -> float:
        free()
        assert next_began.wait(PATIENCE)
        return 0.25

    def following(free: Callable[[], None]) -> float:
        next_began.set()
        return 0.5

    runner = side_by_side(1)
    runner.run(waiting(number, run, ends) for number, run in enumerate([with_report, following]))
    assert ends == {0: 0.25, 1: 0.5} and runner._busy.most == 1


def test_trials_are_composed_when_their_time_has_come() -> None:
    composed, ends = [], {}
    ends_at_composing = {}

    def trials() -> Iterator[Waiting]:
        for number in range(6):
            composed.append(threading.current_thread())
            ends_at_composing[number] = len(ends)
            yield waiting(number, lambda free: 0.5, ends)

    side_by_side(8, limit=1).run(trials())
    assert len(ends) == 6 and set(composed) == {threading.current_thread()}
    assert ends_at_composing == {number: number for number in range(6)}


def test_an_error_in_the_waiting_thread_tells_every_trial_to_end() -> None:
    ends: dict[int, Any] = {}
    told = [Told(), Told()]

    def trials() -> Iterator[Waiting]:
        for number, trial in enumerate(told):
            yield waiting(number, lambda free, trial=trial: trial.ended.wait(PATIENCE) and None, ends, trial)  # type: ignore[misc]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(4).run(trials())
    assert all(trial.ended.is_set() for trial in told)


def test_what_a_trial_cannot_put_into_its_row_ends_the_sweep() -> None:
    def fail(free: Callable[[], None]) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        side_by_side(2).run(iter([waiting(0, fail, {})]))


def test_a_wait_for_spark_ends_when_its_thread_is_told_to() -> None:
    interruption, released, began = Interruption(), threading.Event(), threading.Event()
    raised = []

    def work() -> None:
        began.set()
        released.wait(PATIENCE)

    def trial() -> None:
        with interruption.received():
            for _ in range(2):  # what begins after the request ends at once
                try:
                    run_interruptibly(work, on_stop=released.set)
                except EndRequested as error:
                    raised.append(error)

    thread = threading.Thread(target=trial)
    thread.start()
    assert began.wait(PATIENCE)
    interruption.request()
    thread.join(PATIENCE)
    assert len(raised) == 2 and released.is_set()
    assert run_interruptibly(lambda: 3) == 3  # other threads are not meant


def test_each_trial_has_its_own_log_lines_and_those_of_threads_that_wait_for_spark(tmp_path: Path) -> None:
    log = logging.getLogger("tests.side_by_side")
    log.setLevel(logging.INFO)
    both = threading.Barrier(2)

    def trial(number: int) -> None:
        with logs.of_trial(number, tmp_path / f"{number}.log", "%(message)s"):
            both.wait(PATIENCE)
            log.info("of %d", number)
            run_interruptibly(lambda: log.info("below %d", number))
            both.wait(PATIENCE)
            if number == 0:
                thread = threading.Thread(target=log.info, args=("of none",))
                thread.start()
                thread.join()
            both.wait(PATIENCE)

    threads = [threading.Thread(target=trial, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.info("after both")
    for number in (0, 1):
        assert (tmp_path / f"{number}.log").read_text().splitlines() == [f"of {number}", f"below {number}", "of none"]
