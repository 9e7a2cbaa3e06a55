"""The process of one rank, forked from the warm process for its agent.

One line of JSON on standard input is its assignment (``contracts/rank_task.py``); after it standard input stays open
until the agent lets this process go, or is gone. Events go to a pipe; standard output and error are the log. Exit
codes: 0 done, 2 the user can fix it, 1 anything else; the reason is sent as an event.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

from distributed_cls.config import plugins
from distributed_cls.contracts import rank_task
from distributed_cls.contracts.events import Failed, FailureKind, Finished
from distributed_cls.errors import UserError
from distributed_cls.training import interruption
from distributed_cls.training.latest_state import LatestState
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.start import perform


class _Agent:
    """The agent of this rank: when it lets go, or is gone, this process ends."""

    def __init__(self) -> None:
        self.code = 1  # until the work is done
        self._watch = threading.Thread(target=self._await_end_of_input, name="agent-watch", daemon=True)
        self._watch.start()

    def _await_end_of_input(self) -> None:
        while sys.stdin.buffer.read(4096):
            pass
        # Not sys.exit: TensorFlow's tear-down waits for peers that may be gone already.
        _end(self.code)

    def await_leave(self) -> NoReturn:
        """Stay until the agent lets go: a peer may still be receiving this rank's part of the last collective."""
        self.code = 0
        self._watch.join()
        raise AssertionError("the watch ends with the process")


def _end(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main(events_fd: int, states: tuple[int, int]) -> NoReturn:
    """Do the assignment on standard input. ``states``: descriptors of two places in memory that outlive this process,
    for its latest states (``contracts/checkpoint.py``)."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the agent asks a rank that is stuck where it stands
    interruption.listen()
    reporter = Reporter(events_fd)
    line = sys.stdin.buffer.readline()
    try:
        plugins.import_all(rank_task.plugins_of(line))  # they register the settings that the assignment holds
        assignment = rank_task.load_assignment(line)
        agent = _Agent()
        reporter.start_heartbeat()
        result = perform(assignment, reporter, LatestState(states))
        reporter.send(Finished(result=result))
    except UserError as error:
        reporter.send(Failed(failure=FailureKind.USER, message=str(error)))
        code = 2
    except BaseException as error:
        kind = getattr(error, "failure", FailureKind.ERROR)
        if kind is not FailureKind.INTERRUPTED:
            traceback.print_exc()
        worded = kind in (FailureKind.DIVERGED, FailureKind.INTERRUPTED)
        reporter.send(Failed(failure=kind, message=str(error) if worded else f"{type(error).__name__}: {error}"))
        code = 1
    else:
        agent.await_leave()
    _end(code)
