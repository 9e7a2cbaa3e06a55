"""Keeps ``status.json`` of a run up to date, from its stages and from the events of its ranks."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed_cls.contracts import status as statuses
from distributed_cls.contracts.events import AttemptStarted, EpochEnded, Event, PhaseStarted, TrainProgressed
from distributed_cls.contracts.run_folder import full_disk_endured
from distributed_cls.contracts.status import State, Status
from distributed_cls.run.recorder import STAGES

_SECONDS = 1.0  # between two writes of the same stage
_LONGEST_ERROR = 2000


class StatusFile:
    """``status.json`` of one run; there is none before its first stage begins, so that a refused run leaves nothing."""

    def __init__(self, folder: Path, job: str) -> None:
        now = time.time()
        self._folder, self._begun, self._written = folder, False, 0.0
        self._status = Status(job, began=now, updated=now, pid=os.getpid())
        self._first: tuple[float, int] | None = None  # when this attempt told of its first step, and which

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Say at the end of the block how the run ended."""
        try:
            yield
        except BaseException as error:
            # What ended the run counts, whether or not its folder can still be written.
            with contextlib.suppress(OSError):
                if isinstance(error, Exception):
                    self._end(State.FAILED, error=str(error)[:_LONGEST_ERROR])
                else:
                    self._end(State.INTERRUPTED)
            raise
        self._end(State.DONE, stage="")

    def _end(self, state: State, **changes: Any) -> None:
        if self._begun:
            self._set(at_once=True, state=state, seconds_left=None, **changes)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The run is in this stage during the block."""
        self._begun, before = True, self._status.stage
        self._set(at_once=True, stage=name)
        yield
        self._set(stage=before)

    def __call__(self, event: Event) -> None:
        match event:
            case AttemptStarted():
                self._first = None
                self._set(at_once=True, attempt=event.number)
            case PhaseStarted(rank=0):
                self._set(at_once=True, stage=STAGES[event.phase])
            case TrainProgressed():
                self._set(
                    epoch=event.epoch,
                    epochs=event.epochs,
                    step=event.step,
                    steps=event.steps,
                    train=event.values,
                    seconds_left=self._seconds_left(event),
                )
            case EpochEnded():
                self._set(at_once=event.split == "val", **{event.split: event.values})

    def _seconds_left(self, event: TrainProgressed) -> float | None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, event.step)
        began, first = self._first
        return (
            round((now - began) / (event.step - first) * (event.steps - event.step), 1) if event.step > first else None
        )

    def _set(self, at_once: bool = False, **changes: Any) -> None:
        self._status = dataclasses.replace(self._status, updated=round(time.time(), 3), **changes)
        if self._begun and (at_once or time.monotonic() - self._written >= _SECONDS):
            self._written = time.monotonic()
            with full_disk_endured():
                statuses.write(self._folder, self._status)
