"""Runs the trials of a sweep side by side, each in a thread of its own.

A trial is followed as soon as its ranks are through, while its report is written.

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
LOOK_AHEAD = 16  # trials that are composed while they wait, to find one that fits
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
    """A trial that has begun. ``run`` calls its argument when the slots are free; ``end`` is called with what it gave,
    the validation accuracy."""

    trial: Trial
    run: Callable[[Callable[[], None]], float | None]
    end: Callable[[float | None], None]


class _Free:
    """The trial goes on without its slots."""


_Outcome = float | BaseException | _Free | None


class SideBySide:
    """Runs trials until all have ended. ``fits``: whether a trial can run in the session that is there. ``look_ahead``:
    how many trials are taken before there is room for them, to find one that fits."""

    def __init__(
        self,
        limit: int | None,
        slots: Slots,
        fits: Callable[[ClusterConfig], bool],
        busy: BusySlots,
        look_ahead: int = LOOK_AHEAD,
    ) -> None:
        self._admission, self._slots, self._fits, self._busy = Admission(limit), slots, fits, busy
        self._look_ahead = look_ahead
        self._waiting: dict[int, Waiting] = {}
        self._running: dict[int, Running] = {}
        self._held: dict[int, Need] = {}  # by those among them that have not freed their slots
        self._news: queue.SimpleQueue[tuple[int, _Outcome]] = queue.SimpleQueue()

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
            held = list(self._held.values())
            if self._admission.full(held, self._slots):
                return
            chosen = self._admission.choose(self._needs(), held, self._slots)
            if chosen is not None:
                self._begin(self._waiting.pop(chosen))
                continue
            more = next(trials, None) if len(self._waiting) < self._look_ahead else None
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
        self._running[waiting.number], self._held[waiting.number] = running, waiting.need
        arguments = (self._perform, waiting.number, running.run)
        name = f"trial-{waiting.number}"
        threading.Thread(target=contextvars.copy_context().run, args=arguments, daemon=True, name=name).start()

    def _perform(self, number: int, run: Callable[[Callable[[], None]], float | None]) -> None:
        outcome: _Outcome
        try:
            outcome = run(lambda: self._news.put((number, _Free())))
        except BaseException as error:  # raised again by the thread that waits
            outcome = error
        self._news.put((number, outcome))

    def _await_one(self) -> None:
        try:
            number, outcome = self._news.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        self._note()
        self._held.pop(number, None)
        if isinstance(outcome, _Free):
            return
        running = self._running.pop(number)
        if isinstance(outcome, BaseException):
            raise outcome
        running.end(outcome)

    def _note(self) -> None:
        self._busy.note(time.monotonic(), list(self._held.values()), self._slots(0))

    def _interrupt(self) -> None:
        for running in self._running.values():
            running.trial.interrupt()
        until = time.monotonic() + _END_SECONDS
        while self._running and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                number, outcome = self._news.get(timeout=_POLL_SECONDS)
                if not isinstance(outcome, _Free):
                    self._running.pop(number)
