"""SIGTERM to a rank: while it trains, it writes a checkpoint after the present call; otherwise it ends at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from distributed_cls.contracts.events import FailureKind


class Interrupted(RuntimeError):
    """The ranks were asked to end, and have written a checkpoint."""

    failure = FailureKind.INTERRUPTED


_listening = False
_asked = False
_heeded = False


def listen() -> None:
    """Take SIGTERM from now on. Call in the main thread of a rank's process."""
    global _listening
    _listening = True
    restore()


def restore() -> None:
    """Take SIGTERM again, in a process that listens: TensorFlow sets a handler of its own when it makes a cluster."""
    if _listening:
        signal.signal(signal.SIGTERM, _on_sigterm)


def asked() -> bool:
    """Whether SIGTERM has come while it was heeded."""
    return _asked


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Within the block someone asks ``asked`` again and again, and ends in good order."""
    global _heeded
    _heeded = True
    try:
        yield
    finally:
        _heeded = False


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    if not _heeded:
        os._exit(128 + number)
