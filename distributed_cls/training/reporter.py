"""What a rank reports to its agent: events (``contracts/events.py``) as JSON lines on a pipe."""

import os
import threading
import time

from distributed_cls.contracts import events
from distributed_cls.contracts.events import Event, Heartbeat, Phase, PhaseProgressed, PhaseStarted

_PROGRESS_SECONDS = 1.0  # between two reports of how far a phase is


class Reporter:
    """Writes events to the file descriptor ``fd``. Safe to use from several threads."""

    def __init__(self, fd: int) -> None:
        self._stream = os.fdopen(fd, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._heartbeat = Heartbeat(step=0)
        self._last_progress = float("-inf")

    def send(self, event: Event) -> None:
        """Write one event; the driver sets its rank and time on arrival."""
        line = events.dumps(event)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def phase(self, phase: Phase) -> None:
        """Say what this rank begins to do; the driver times the stages by it, and limits each."""
        self._last_progress = float("-inf")
        self.send(PhaseStarted(phase=phase))

    def progress(self, done: int, total: int) -> None:
        """Say how far the phase is, at most once a second."""
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_SECONDS or done == total:
            self._last_progress = now
            self.send(PhaseProgressed(done=done, total=total))

    def at_step(self, step: int, images: int, seconds: float) -> None:
        """Note the last finished step, and what this rank has computed since the last note; heartbeats carry it."""
        before = self._heartbeat
        self._heartbeat = Heartbeat(step=step, images=before.images + images, seconds=before.seconds + seconds)

    def start_heartbeat(self, seconds: float = 2.0) -> None:
        """Send a heartbeat every ``seconds``: a process that is stopped or wedged sends none."""

        def beat() -> None:
            while True:
                self.send(self._heartbeat)
                time.sleep(seconds)

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
