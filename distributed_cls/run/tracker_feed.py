"""Passes the metrics and the result of a run on to an experiment tracker, without ever holding up the training."""

import contextlib
import contextvars
import importlib.util
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from distributed_cls.config import Config
from distributed_cls.contracts.events import EpochEnded, Event, Metrics
from distributed_cls.contracts.status import State
from distributed_cls.contracts.summary import Summary
from distributed_cls.errors import UserError

log = logging.getLogger(__name__)

TRACKED_JOBS = ("pipeline", "train", "evaluate")


class Tracker(Protocol):
    """A store of experiments, with one run open."""

    def metrics(self, split: str, epoch: int, step: int, values: Metrics) -> None:
        """Note the means of an epoch."""

    def result(self, summary: Summary) -> None:
        """Note what came of the run, whose folder has everything by now."""

    def end(self, state: State) -> None:
        """Note how the run ended, and write what is still held back."""


def make(config: Config, folder: Path, sweep: Path | None) -> "Tracking":
    """The tracking of a run in ``folder``, a trial of the sweep in the folder ``sweep`` if that is given.

    Raises UserError when the package that it needs is not installed.
    """
    if config.tracking.name == "none" or config.job.name not in TRACKED_JOBS:
        return Tracking()
    package = config.tracking.name  # both are called as what they are chosen by
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"Expected the package {package} for tracking={config.tracking.name}. Received: it is not installed. "
            'Install the extra tracking (pip install -e ".[tracking]"), or set tracking=none.'
        )

    def opened() -> Tracker:
        if config.tracking.name == "mlflow":
            from distributed_cls.run.mlflow_tracker import MlflowTracker

            return MlflowTracker(config, folder, sweep)
        from distributed_cls.run.tensorboard_tracker import TensorBoardTracker

        return TensorBoardTracker(folder)

    return Tracking(opened, f"tracking={config.tracking.name}", config.tracking.timeout)


class Tracking:
    """Hands everything to the tracker's own thread, in order. What cannot be noted is said once, and costs no more."""

    def __init__(self, open_tracker: Callable[[], Tracker] | None = None, name: str = "", timeout: float = 0) -> None:
        self._open, self._name, self._timeout = open_tracker, name, timeout
        self._todo: queue.SimpleQueue[tuple[Callable[[Tracker], None], Future[None]] | None] = queue.SimpleQueue()
        self._opened: Future[None] | None = None

    def begin(self) -> None:
        """Open the tracker's run. Raises UserError when the store does not take it within ``tracking.timeout``."""
        if self._open is None or self._opened is not None:
            return
        self._opened = Future()
        mine = contextvars.copy_context()  # by which a log line is known to be of this run
        arguments = (self._work, self._open, self._opened)
        threading.Thread(target=mine.run, args=arguments, daemon=True, name="tracking").start()
        try:
            self._opened.result(self._timeout)
        except Exception as error:
            self._open = None
            what = "no answer in time" if isinstance(error, TimeoutError) else _one_line(error)
            raise UserError(
                f"Expected a store for {self._name} that takes a run within {self._timeout:g} s. Received: {what}. "
                "Set tracking.uri to one that is there, or tracking=none."
            ) from error

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            self._do(lambda tracker: tracker.metrics(event.split, event.epoch, event.step, event.values))

    def result(self, summary: Summary) -> None:
        """Pass the result on."""
        self._do(lambda tracker: tracker.result(summary))

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Say at the end of the block how the run ended, and wait until everything is noted."""
        try:
            yield
        except BaseException as error:
            self._end(State.FAILED if isinstance(error, Exception) else State.INTERRUPTED)
            raise
        self._end(State.DONE)

    def _do(self, what: Callable[[Tracker], None]) -> Future[None] | None:
        if self._opened is None or self._open is None:
            return None
        done: Future[None] = Future()
        self._todo.put((what, done))
        return done

    def _end(self, state: State) -> None:
        done = self._do(lambda tracker: tracker.end(state))
        if done is None:
            return
        self._todo.put(None)
        try:
            done.result(self._timeout)
        except TimeoutError:
            log.warning("%s: not everything was noted within %g s (tracking.timeout)", self._name, self._timeout)

    def _work(self, open_tracker: Callable[[], Tracker], opened: Future[None]) -> None:
        try:
            tracker = open_tracker()
        except Exception as error:  # whatever a store raises; ``begin`` tells it
            opened.set_exception(error)
            return
        opened.set_result(None)
        lost = False
        while (item := self._todo.get()) is not None:
            what, done = item
            try:
                if not lost:
                    what(tracker)
            except Exception as error:
                lost = True
                log.warning("%s failed, and the rest of this run is not tracked: %s", self._name, _one_line(error))
            done.set_result(None)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
