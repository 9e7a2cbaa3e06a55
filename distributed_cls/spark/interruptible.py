"""Waiting for Spark in a way that a signal can end.

Ctrl-C and SIGTERM reach the main thread. When one interrupts a call of that thread into the JVM, the reply to the call
is still outstanding on the thread's connection, and the thread's next call, such as the one that stops Spark, waits
behind it: until the whole job is done, or forever when the call was to await the end of a stream.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


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
    ``concurrent.futures.TimeoutError``.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised again in the waiting thread, whatever it is
            outcome.set_exception(error)

    try:
        # A daemon: it may be in a call that ends only with the JVM, and must not keep the process alive.
        threading.Thread(target=run, name="spark-job", daemon=True).start()
        return outcome.result(limit)
    except BaseException:
        if not outcome.done():
            silence_py4j()
            on_stop()
        raise
