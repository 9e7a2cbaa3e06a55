"""How far the decoding is, seen from the driver: counted from what the tasks leave in the work folder."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from distributed_cls import storage
from distributed_cls.dataset import work
from distributed_cls.dataset.shard_plan import DecodePart

Progress = Callable[[int, int], None]
POLL_SECONDS = 0.25


@contextmanager
def reporting(progress: Progress | None, work_folder: str, parts: Sequence[DecodePart], total: int) -> Iterator[None]:
    """Call ``progress`` while the block runs, from what the tasks that decode ``parts`` leave in the work folder.

    total: images of the data set; those in no part are done.
    """
    if progress is None:
        yield
        return
    _remove_stale_counts(work_folder)
    images = {f"{work.PART}{part.name}.parquet": part.images for part in parts}
    before = total - sum(images.values())
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            progress(min(total, before + images_done(work_folder, images)), total)

    watcher = threading.Thread(target=watch, name="prepare-progress", daemon=True)
    watcher.start()
    try:
        yield
        progress(total, total)
    finally:
        ended.set()
        watcher.join()


def _remove_stale_counts(work_folder: str) -> None:
    """What tasks of a killed run have written must not count; a run that is alive writes it again in a moment."""
    if not storage.is_url(work_folder):
        for name in storage.names(work_folder):
            if name.startswith(work.PROGRESS):
                storage.remove_file(storage.join(work_folder, name))


def images_done(work_folder: str, images: Mapping[str, int]) -> int:
    """Images in whole parts and in parts that are being written. images: of each part, by its index file."""
    done = 0
    for name in storage.names(work_folder):
        done += images.get(name, 0)
        if name.startswith(work.PROGRESS):
            try:
                done += int(storage.read_bytes(storage.join(work_folder, name)) or 0)
            except (OSError, ValueError):
                continue  # ended, or being written, at this moment
    return done
