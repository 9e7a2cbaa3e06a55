"""The process of one rank: ``python -m distributed_cls.training``, started and watched by its agent.

One line of JSON on standard input is its assignment (``contracts/rank_task.py``); after it standard input stays open
until the agent lets this process go, or is gone. Events go to the pipe ``--events``; standard output and error are the
log. Exit codes: 0 done, 2 the user can fix it, 1 anything else; the reason is sent as an event.
"""

import ctypes
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

from distributed_cls.config import plugins
from distributed_cls.contracts import rank_task
from distributed_cls.contracts.events import Failed, FailureKind, Finished, Phase
from distributed_cls.contracts.rank_task import RankAssignment, RankResult
from distributed_cls.errors import UserError
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.training.reporter import Reporter

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Parent:
    """The process that started this one: when it dies or lets go, this process ends."""

    def __init__(self, pid: int) -> None:
        self.code = 1  # until the work is done
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != pid:  # it died before we asked
            os._exit(1)
        self._watch = threading.Thread(target=self._await_end_of_input, name="parent-watch", daemon=True)
        self._watch.start()

    def _await_end_of_input(self) -> None:
        while sys.stdin.buffer.read(4096):
            pass
        # Not sys.exit: TensorFlow's tear-down waits for peers that may be gone already.
        os._exit(self.code)

    def await_leave(self) -> NoReturn:
        """Stay until the parent lets go: a peer may still be receiving this rank's part of the last collective."""
        self.code = 0
        self._watch.join()
        raise AssertionError("the watch ends with the process")


def _perform(assignment: RankAssignment, reporter: Reporter) -> RankResult:
    reporter.phase(Phase.TENSORFLOW)
    # TensorFlow only from here on: its import takes seconds, and a wrong assignment should fail before that.
    import_tensorflow()
    from distributed_cls.training.start import perform

    return perform(assignment, reporter)


def main() -> NoReturn:
    # Ctrl-C reaches the whole process group; the agent decides when a rank ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reporter = Reporter(int(sys.argv[sys.argv.index("--events") + 1]))
    line = sys.stdin.buffer.readline()
    try:
        plugins.import_all(rank_task.plugins_of(line))  # they register the settings that the assignment holds
        assignment = rank_task.load_assignment(line)
        parent = _Parent(assignment.parent_pid)
        reporter.start_heartbeat()
        result = _perform(assignment, reporter)
        reporter.send(Finished(result=result))
    except UserError as error:
        reporter.send(Failed(failure=FailureKind.USER, message=str(error)))
        code = 2
    except BaseException as error:
        traceback.print_exc()
        kind = getattr(error, "failure", FailureKind.ERROR)
        message = str(error) if kind is FailureKind.DIVERGED else f"{type(error).__name__}: {error}"
        reporter.send(Failed(failure=kind, message=message))
        code = 1
    else:
        parent.await_leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
