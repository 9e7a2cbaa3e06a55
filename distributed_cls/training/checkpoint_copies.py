"""Copies of a run's checkpoints in a store (``contracts/checkpoint_store.py``), made beside training."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from distributed_cls import storage
from distributed_cls.contracts import checkpoint_store


class CheckpointCopies:
    """Copies the newest checkpoint, one after the other; a slow store gets fewer of them, and the last in any case.

    A store that fails ends nothing, since the run folder has the checkpoints: it is told once, and tried again.
    """

    def __init__(self, folder: Path, url: str, keep: int, note: Callable[[str], None]) -> None:
        """``note`` is given a line for the person who watches, from a thread."""
        self._folder, self._url, self._keep, self._note = folder, url, keep, note
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-copy")
        self._copying: Future[None] | None = None
        self._behind = False  # the newest checkpoint is not in the store, and is not being copied
        self._failed = 0  # copies one after the other

    def begin(self) -> None:
        """Begin to copy a checkpoint that has just been written, unless the one before is still on its way."""
        if self._copying is None or self._copying.done():
            self._copying = self._thread.submit(self._copy)
        else:
            self._behind = True

    def finish(self) -> None:
        """Return when the newest checkpoint is in the store, or has failed to come there once more."""
        if self._copying is not None:
            self._copying.result()
        if self._behind:
            self._copy()
        if self._behind:
            self._note(f"{self._url} does not have the last checkpoint of this run, which is in {self._folder}")

    def _copy(self) -> None:
        self._behind = False
        try:
            storage.attempts()(checkpoint_store.copy_newest, self._folder, self._url, self._keep)
        except Exception as error:  # every store has errors of its own
            self._behind = True
            self._failed += 1
            if self._failed == 1:
                self._note(
                    f"A checkpoint could not be copied to {self._url} ({storage.reason_of(error)}). Training goes on "
                    "and tries again with the next one"
                )
        else:
            if self._failed:
                self._note(f"Checkpoints are copied to {self._url} again, after {self._failed} that failed")
            self._failed = 0
