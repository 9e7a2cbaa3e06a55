"""Which trial begins next: sweeps of gangs on a clock that is only a number."""

import heapq
import random
from collections.abc import Sequence

import pytest

from launch.admission import EVERYTHING, OVERTAKINGS, Admission, BusySlots, Need


class Simulation:
    """Trials (need, seconds) on ``slots`` slots, and on GPUs of which ``executors`` have so many each."""

    def __init__(self, slots: int, limit: int | None = None, executors: Sequence[int] = ()) -> None:
        self.total, self.limit, self.executors = slots, limit, executors
        self.admission, self.busy = Admission(limit), BusySlots()
        self.now = 0.0
        self.running: dict[int, tuple[float, Need]] = {}
        self.waiting: dict[int, Need] = {}
        self.began: dict[int, float] = {}
        self.most_overtaken = 0

    def slots(self, gpus: int) -> int:
        return sum(each // gpus for each in self.executors) if gpus else self.total

    def run(self, trials: Sequence[tuple[Need, float]]) -> None:
        self.waiting = {number: need for number, (need, _) in enumerate(trials)}
        overtaken = dict.fromkeys(self.waiting, 0)
        while self.waiting or self.running:
            needs = [need for _, need in self.running.values()]
            chosen = self.admission.choose(self.waiting, needs, self.slots)
            if chosen is None:
                self._check_that_idle_slots_are_for_one_that_was_overtaken(overtaken)
                assert self.running, "nothing runs, and nothing begins"
                self._let_one_end()
                continue
            for number in self.waiting:
                overtaken[number] += number < chosen
            self.busy.note(self.now, needs, self.total)
            self.running[chosen] = (self.now + trials[chosen][1], self.waiting.pop(chosen))
            self.began[chosen] = self.now
            held = sum(min(need.workers, self.total) for _, need in self.running.values())
            assert held <= self.total
        self.most_overtaken = max(overtaken.values())

    def _let_one_end(self) -> None:
        number = min(self.running, key=lambda each: self.running[each][0])
        end = self.running[number][0]
        self.busy.note(end, [need for _, need in self.running.values()], self.total)
        self.now = end
        del self.running[number]

    def _check_that_idle_slots_are_for_one_that_was_overtaken(self, overtaken: dict[int, int]) -> None:
        if len(self.running) == self.limit:
            return
        free = self.total - sum(need.workers for _, need in self.running.values())
        fitting = [number for number, need in self.waiting.items() if need.workers <= free]
        if fitting:
            assert any(overtaken[number] == OVERTAKINGS for number in self.waiting if number < fitting[0])


def test_equal_trials_leave_no_slot_idle_and_begin_in_their_order() -> None:
    simulation = Simulation(4)
    simulation.run([(Need(1), 1.0)] * 22 + [(Need(1), 3.0)])
    order = sorted(simulation.began, key=lambda number: (simulation.began[number], number))
    assert order == list(range(23))
    # A list schedule of one-slot jobs, computed apart: each begins on the slot that is free first.
    free = [0.0] * 4
    for number in range(23):
        at = heapq.heappop(free)
        assert simulation.began[number] == at
        heapq.heappush(free, at + (3.0 if number == 22 else 1.0))
    assert simulation.now == max(free)
    assert simulation.busy.share == pytest.approx(25 / (4 * simulation.now)) and simulation.busy.most == 4


@pytest.mark.parametrize("seed", range(20))
def test_mixed_gangs_all_run_and_none_is_overtaken_without_end(seed: int) -> None:
    draw = random.Random(seed)
    trials = [(Need(draw.choice([1, 1, 1, 2, 3, 4])), draw.uniform(0.5, 3.0)) for _ in range(60)]
    simulation = Simulation(4)
    simulation.run(trials)
    assert len(simulation.began) == 60 and simulation.most_overtaken <= OVERTAKINGS
    work = sum(need.workers * seconds for need, seconds in trials)
    assert simulation.busy.share == pytest.approx(work / (4 * simulation.now))


def test_a_gang_among_a_stream_of_small_trials_begins_after_a_bounded_wait() -> None:
    simulation = Simulation(2)
    simulation.run([(Need(1), 0.5), (Need(2), 1.0), *[(Need(1), 1.0)] * 100])
    before = [number for number, at in simulation.began.items() if number > 1 and at < simulation.began[1]]
    assert before == list(range(2, 2 + OVERTAKINGS)) and simulation.began[1] <= OVERTAKINGS + 1


def test_never_more_at_once_than_the_limit() -> None:
    simulation = Simulation(8, limit=3)
    simulation.run([(Need(1), 1.0)] * 9)
    assert simulation.now == 3.0 and simulation.busy.most == 3 and simulation.busy.share == pytest.approx(3 / 8)


def test_gpus_bound_the_gangs_that_want_some_and_no_others() -> None:
    admission, simulation = Admission(), Simulation(8, executors=[2, 2])
    one, two = Need(1, gpus=1), Need(1, gpus=2)
    assert admission.choose({0: one}, [one] * 3, simulation.slots) == 0
    assert admission.choose({0: one}, [one] * 4, simulation.slots) is None
    assert admission.choose({0: one, 1: Need(1)}, [one] * 4, simulation.slots) == 1
    # Two GPUs of one executor are half of all: three trials of one GPU may lie on both executors.
    assert admission.choose({0: two}, [one] * 2, simulation.slots) == 0
    assert admission.choose({0: two}, [one] * 3, simulation.slots) is None


def test_what_needs_everything_or_another_session_waits_until_nothing_runs() -> None:
    admission, simulation = Admission(), Simulation(4)
    for need in (Need(EVERYTHING), Need(9), Need(1, alone=True)):
        assert admission.choose({0: need}, [Need(1)], simulation.slots) is None
        assert admission.choose({0: need}, [], simulation.slots) == 0


def test_the_first_trial_starts_spark_and_the_others_wait_for_its_slots() -> None:
    admission = Admission()
    assert admission.choose({0: Need(1)}, [], lambda gpus: None) == 0
    assert admission.choose({1: Need(1)}, [Need(1)], lambda gpus: None) is None
    busy = BusySlots()
    for now, slots in [(0.0, None), (10.0, None), (11.0, 2), (12.0, 2)]:
        busy.note(now, [Need(1)], slots)
    assert busy.share == 0.5  # of the seconds with a session
