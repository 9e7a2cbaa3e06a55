"""Waiting for Spark where a signal can end the wait.

Ctrl-C and SIGTERM reach the main thread. If they interrupt it in the middle of a call into the JVM, the answer of that
call is still to come on this thread's connection, and the next call, such as the one that stops Spark, waits behind it:
until the whole job is done, or for ever when the call was to await the end of a stream.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def silence_py4j() -> None:
    """Keep Py4J from writing of every call that is cut off and every connection that is closed.

    It does so to a logger of its own and to the root logger; the caller gets an exception anyway.
    """
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_not_of_py4j)  # once, however often it is added


def _not_of_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in Path(record.pathname).parts


def run_interruptibly(
    work: Callable[[], T], on_stop: Callable[[], None] = lambda: None, limit: float | None = None
) -> T:
    """Do ``work`` in a thread, which has a connection of its own, and wait here for what it gives or raises.

    When a signal ends the wait, ``on_stop`` is called (its calls into the JVM are answered) and the signal's exception
    goes on; whatever ``work`` still does is not waited for. After ``limit`` seconds the same, with
    ``concurrent.futures.TimeoutError``.
    """
    outcome: Future[T] = Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # told to the caller, whatever it is
            outcome.set_exception(error)

    try:
        # A daemon: it may be in a call that ends only with the JVM, and must not keep the process alive.
        threading.Thread(target=do, name="spark-job", daemon=True).start()
        return outcome.result(limit)
    except BaseException:
        if not outcome.done():
            silence_py4j()
            on_stop()
        raise
