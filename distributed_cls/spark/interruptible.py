"""Waiting for Spark in a way that a signal can end.

Ctrl-C and SIGTERM reach the main thread. When one interrupts a call of that thread into the JVM, the reply to the call
is still outstanding on the thread's connection, and the thread's next call, such as the one that stops Spark, waits
behind it: until the whole job is done, or forever when the call was to await the end of a stream.

A thread that does a job of its own is reached by no signal: whoever started it ends its waits by an ``Interruption``.
"""

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from pathlib import Path
from typing import Any, TypeVar

from distributed_cls.errors import EndRequested

T = TypeVar("T")


class Interruption:
    """For one thread what a signal is for the main thread: its waits for Spark end with EndRequested."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested = False
        self._waits: set[Future[Any]] = set()

    def request(self) -> None:
        """End the wait in which the thread is, and all that it begins from now on."""
        with self._lock:
            self._requested = True
            for outcome in self._waits:
                outcome.cancel()

    @contextlib.contextmanager
    def received(self) -> Iterator[None]:
        """Be the interruption of this thread in the block."""
        token = _interruption.set(self)
        try:
            yield
        finally:
            _interruption.reset(token)

    @contextlib.contextmanager
    def _ending(self, outcome: "Future[Any]") -> Iterator[None]:
        with self._lock:
            self._waits.add(outcome)
            if self._requested:
                outcome.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(outcome)


_interruption: contextvars.ContextVar[Interruption | None] = contextvars.ContextVar("interruption", default=None)


def silence_py4j() -> None:
    """Suppress Py4J's log lines on interrupted calls and closed connections.

    Py4J writes them to its own logger and to the root logger; the exceptions that it raises say the same.
    """
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_from_py4j)  # a filter is added once, however often this is called


def _is_not_from_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in Path(record.pathname).parts


def run_interruptibly(
    work: Callable[[], T], on_stop: Callable[[], None] = lambda: None, limit: float | None = None
) -> T:
    """Run ``work`` in a thread, which has its own connection to the JVM; return its result or raise its exception.

    When a signal ends the wait, ``on_stop`` is called (its calls into the JVM are answered) and the signal's exception
    is raised; the rest of ``work`` is not waited for. After ``limit`` seconds likewise, with
    ``concurrent.futures.TimeoutError``. Raises EndRequested in a thread whose ``Interruption`` is requested.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            try:
                outcome.set_result(work())
            except BaseException as error:  # raised again in the waiting thread, whatever it is
                outcome.set_exception(error)

    interruption = _interruption.get()
    try:
        with interruption._ending(outcome) if interruption else contextlib.nullcontext():
            # A daemon: it may be in a call that ends only with the JVM, and must not keep the process alive.
            threading.Thread(target=contextvars.copy_context().run, args=(run,), name="spark-job", daemon=True).start()
            return outcome.result(limit)
    except BaseException as error:
        if not outcome.done() or outcome.cancelled():
            silence_py4j()
            on_stop()
        if isinstance(error, CancelledError):
            raise EndRequested("interrupted") from None
        raise
