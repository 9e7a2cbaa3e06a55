"""What a person sees of a sweep while it goes on: ``trials.html`` and, on a terminal, one table of its trials.

Both are drawn by threads of their own from the rows of the sweep and each run's ``status.json``. A trial neither waits
for them nor learns of it when they fail.
"""

import contextlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.contracts import status as statuses
from distributed_cls.contracts.status import State, Status
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import UserError
from distributed_cls.run.progress import console
from launch.sweep_state import Sweep

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

log = logging.getLogger(__name__)

_SECONDS = 2.0  # between two looks at the trials
_SHARE = 0.02  # of one core, which the page may take at most
_LONGEST_WAIT = 10.0  # for a write that goes on at the end


class SweepView:
    """The page of ``sweep`` and, with ``table``, its table on the terminal, between ``begin`` and ``end``."""

    def __init__(self, sweep: Sweep, table: bool) -> None:
        self.table = table
        self._sweep = sweep
        self._over = threading.Event()
        self._warned = False
        self._writer = threading.Thread(target=self._write_on, daemon=True, name="trials.html")
        self._live: Live | None = None

    def begin(self) -> None:
        """Show the sweep from now on."""
        self._writer.start()
        if self.table:
            from rich.live import Live

            self._live = Live(get_renderable=self._table, console=console, transient=True, refresh_per_second=2)
            self._live.start()

    def end(self) -> None:
        """Take the table away, and write the page of a sweep that is over."""
        if self._live is not None:
            self._live.stop()
        self._over.set()
        self._writer.join(_LONGEST_WAIT)
        self._write(self._sweep.rows, None)

    def _table(self) -> "Table":
        from distributed_cls.evaluation.live_trials import live_table

        rows = self._sweep.rows
        return live_table(rows, running(rows))

    def _write_on(self) -> None:
        pause, written = 0.0, None
        while not self._over.wait(pause):
            began = time.monotonic()
            rows = self._sweep.rows
            found = (rows, running(rows))
            if found != written:
                self._write(*found)
                written = found
            pause = max(_SECONDS, (time.monotonic() - began) / _SHARE)

    def _write(self, rows: list[TrialRow], at_work: dict[int, Status] | None) -> None:
        from distributed_cls.evaluation import trials_page

        try:
            trials_page.write_page(rows, self._sweep.folder, at_work)
        except Exception as error:  # whatever the page's fault is, the sweep is worth more
            if not self._warned:
                log.warning(
                    "%s cannot be written, and the sweep goes on: %s", self._sweep.folder / trials_page.FILE, error
                )
            self._warned = True


def running(rows: list[TrialRow]) -> dict[int, Status]:
    """How the trials that this process runs stand, by their numbers."""
    found = {}
    for row in rows:
        if row.status is TrialStatus.UNFINISHED:
            with contextlib.suppress(UserError):  # one that begins has none yet
                status = statuses.read(Path(row.run))
                if status.state is State.RUNNING and status.pid == os.getpid():
                    found[row.trial] = status
    return found
