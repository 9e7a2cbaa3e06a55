"""What a rank tells its supervisor: JSON lines on a pipe, one event each."""

import json
import os
import threading
import time
from typing import Any


class Events:
    """Writes events to the file descriptor ``fd``. Safe to use from several threads.

    An event is ``{"event": name, "time": unix seconds, …}``. The supervisor adds the rank.
    """

    def __init__(self, fd: int) -> None:
        self._stream = os.fdopen(fd, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._step = 0

    def emit(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, "time": time.time(), **values})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def phase(self, name: str) -> None:
        """Say what this rank begins to do; the driver times the stages by it."""
        self.emit("phase", name=name)

    def at_step(self, step: int) -> None:
        """Note the last finished step, which the next heartbeat carries."""
        self._step = step

    def start_heartbeat(self, seconds: float = 2.0) -> None:
        """Send a sign of life every ``seconds``: a process that is stopped or wedged falls silent."""

        def beat() -> None:
            while True:
                self.emit("heartbeat", step=self._step)
                time.sleep(seconds)

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
