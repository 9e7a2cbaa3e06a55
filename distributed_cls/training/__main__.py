"""The process of one rank: ``python -m distributed_cls.training``, started and watched by its barrier task.

One line of JSON on standard input says what to do (``Order``); after it standard input stays open, and its end means
that the parent is gone. Events go to the pipe ``--events``; standard output and error are the rank's log.
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
from distributed_cls.training.events import Events

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, and watch standard input for the same."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _perform(order: dict[str, Any], events: Events) -> None:
    events.phase("tensorflow")
    # TensorFlow only from here on: its import takes seconds, and a wrong order should fail before that.
    from distributed_cls.training.start import perform

    perform(order, events)


def main() -> NoReturn:
    # Ctrl-C reaches the whole process group; the supervisor decides when a rank ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = Events(int(sys.argv[sys.argv.index("--events") + 1]))
    order = json.loads(sys.stdin.buffer.readline())
    _die_with_parent(order["parent"])
    events.start_heartbeat()
    code = 0
    try:
        _perform(order, events)
    except UserError as error:
        events.emit("failure", kind="user", message=str(error))
        code = 2
    except BaseException as error:
        traceback.print_exc()
        kind = getattr(error, "kind", "error")
        events.emit("failure", kind=kind, message=f"{type(error).__name__}: {error}".strip())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: TensorFlow's tear-down waits for peers that may be gone already.
    os._exit(code)


if __name__ == "__main__":
    main()
