"""The process of one rank: ``python -m distributed_cls.training``, started and watched by its barrier task.

One line of JSON on standard input says what to do (``start.perform``); after it standard input stays open until the
parent lets this process go, or is gone. Events go to the pipe ``--events``; standard output and error are the log.
Exit codes: 0 done, 2 the user can fix it, 1 anything else; the reason is sent as a ``failure`` event.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

from distributed_cls.errors import UserError
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.training.reporter import Events

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


def _perform(order: dict[str, Any], events: Events) -> None:
    events.phase("tensorflow")
    # TensorFlow only from here on: its import takes seconds, and a wrong order should fail before that.
    import_tensorflow()
    from distributed_cls.training.start import perform

    perform(order, events)


def main() -> NoReturn:
    # Ctrl-C reaches the whole process group; the supervisor decides when a rank ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = Events(int(sys.argv[sys.argv.index("--events") + 1]))
    order = json.loads(sys.stdin.buffer.readline())
    parent = _Parent(order["parent"])
    events.start_heartbeat()
    try:
        _perform(order, events)
    except UserError as error:
        events.emit("failure", kind="user", message=str(error))
        code = 2
    except BaseException as error:
        traceback.print_exc()
        events.emit("failure", kind=getattr(error, "kind", "error"), message=f"{type(error).__name__}: {error}")
        code = 1
    else:
        parent.await_leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
