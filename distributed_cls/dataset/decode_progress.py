"""How far the decoding is, seen from the driver: counted from what the tasks leave in the work folder."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed_cls import storage
from distributed_cls.dataset import shard_plan, work

Progress = Callable[[int, int], None]
POLL_SECONDS = 0.25


@contextmanager
def reporting(progress: Progress | None, work_folder: str, done: int, total: int) -> Iterator[None]:
    """Call ``progress`` while the block runs, from what the tasks leave in the work folder."""
    if progress is None:
        yield
        return
    _forget_killed(work_folder)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            progress(min(total, done + images_done(work_folder)), total)

    watcher = threading.Thread(target=watch, name="prepare-progress", daemon=True)
    watcher.start()
    try:
        yield
        progress(total, total)
    finally:
        ended.set()
        watcher.join()


def _forget_killed(work_folder: str) -> None:
    """What tasks of a killed run have told must not count; a run that is alive tells it again in a moment."""
    if not storage.is_url(work_folder):
        for name in storage.names(work_folder):
            if name.startswith(work.PROGRESS):
                Path(work_folder, name).unlink(missing_ok=True)


def images_done(work_folder: str) -> int:
    """Images in whole parts and in parts that are being written."""
    done = 0
    for name in storage.names(work_folder):
        if name.startswith(work.PART) and name.endswith(".parquet"):
            done += shard_plan.images_of(name)
        elif name.startswith(work.PROGRESS):
            try:
                done += int(Path(work_folder, name).read_text() or 0)
            except (OSError, ValueError):
                continue  # ended, or being written, at this moment
    return done
