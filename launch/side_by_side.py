"""Runs the trials of a sweep side by side, each in a thread of its own; a trial that ends is followed at once.

Hydra's own state is touched by the calling thread alone: it composes one trial after the other.
"""

import contextlib
import contextvars
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distributed_cls.config import ClusterConfig
from launch.admission import Admission, BusySlots, Need, Slots
from launch.sweep_trial import Trial

_POLL_SECONDS = 0.5  # between two looks at the slots, while trials wait for Spark or for executors
_LOOK_AHEAD = 16  # trials that are composed while they wait, to find one that fits
_END_SECONDS = 40.0  # for the trials to write their checkpoints and end


@dataclass(frozen=True)
class Waiting:
    """A trial that has not begun. ``begin``: None when it does not begin any more."""

    number: int
    need: Need
    cluster: ClusterConfig | None  # None: its settings are wrong, which it will tell
    begin: Callable[[], "Running | None"]


@dataclass(frozen=True)
class Running:
    """A trial that has begun. ``end``: called with its validation accuracy."""

    trial: Trial
    run: Callable[[], float | None]
    end: Callable[[float | None], None]


class SideBySide:
    """Runs trials until all have ended. ``fits``: whether a trial can run in the session that is there."""

    def __init__(self, limit: int | None, slots: Slots, fits: Callable[[ClusterConfig], bool], busy: BusySlots) -> None:
        self._admission, self._slots, self._fits, self._busy = Admission(limit), slots, fits, busy
        self._waiting: dict[int, Waiting] = {}
        self._running: dict[int, tuple[Running, Need]] = {}
        self._ended: queue.SimpleQueue[tuple[int, float | BaseException | None]] = queue.SimpleQueue()

    def run(self, trials: Iterator[Waiting]) -> None:
        """Run all of ``trials``, which are taken from the iterator as they are needed. When a signal ends the wait, the
        trials that run write their checkpoints and end."""
        try:
            while True:
                self._begin_what_fits(trials)
                if not self._running:
                    return
                self._await_one()
                self._note()
        except BaseException:
            self._interrupt()
            raise

    def _begin_what_fits(self, trials: Iterator[Waiting]) -> None:
        while True:
            running = [need for _, need in self._running.values()]
            if self._admission.full(running, self._slots):
                return
            chosen = self._admission.choose(self._needs(), running, self._slots)
            if chosen is not None:
                self._begin(self._waiting.pop(chosen))
                continue
            more = next(trials, None) if len(self._waiting) < _LOOK_AHEAD else None
            if more is None:
                return
            self._waiting[more.number] = more

    def _needs(self) -> dict[int, Need]:
        return {
            number: dataclasses.replace(each.need, alone=each.cluster is not None and not self._fits(each.cluster))
            for number, each in self._waiting.items()
        }

    def _begin(self, waiting: Waiting) -> None:
        running = waiting.begin()
        if running is None:
            return
        self._note()
        self._running[waiting.number] = (running, waiting.need)
        arguments = (self._perform, waiting.number, running.run)
        name = f"trial-{waiting.number}"
        threading.Thread(target=contextvars.copy_context().run, args=arguments, daemon=True, name=name).start()

    def _perform(self, number: int, run: Callable[[], float | None]) -> None:
        outcome: float | BaseException | None
        try:
            outcome = run()
        except BaseException as error:  # raised again by the thread that waits
            outcome = error
        self._ended.put((number, outcome))

    def _await_one(self) -> None:
        try:
            number, outcome = self._ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        self._note()
        running, _ = self._running.pop(number)
        if isinstance(outcome, BaseException):
            raise outcome
        running.end(outcome)

    def _note(self) -> None:
        self._busy.note(time.monotonic(), [need for _, need in self._running.values()], self._slots(0))

    def _interrupt(self) -> None:
        for running, _ in self._running.values():
            running.trial.interrupt()
        until = time.monotonic() + _END_SECONDS
        while self._running and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                number, _ = self._ended.get(timeout=_POLL_SECONDS)
                self._running.pop(number)
