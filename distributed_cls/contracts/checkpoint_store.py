"""Checkpoints in a store (``train.checkpoint_dir``): ``step-<step>.npz``, the latest of a run, and ``best.npz``.

The files with the arrays that these leave out (``checkpoint.write_frozen``) keep their names.

The rank that writes a checkpoint copies it there; the driver brings it back into a run folder that has none.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from distributed_cls import storage
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import BEST, LAST, DamagedCheckpoint, Position

_NAME = re.compile(r"step-(\d{12})\.npz")


def _place(url: str, step: int) -> str:
    return storage.join(url, f"step-{step:012d}.npz")


def steps(url: str) -> list[int]:
    """The steps of which the store has a checkpoint, in rising order."""
    return sorted(int(found[1]) for name in storage.names(url) if (found := _NAME.fullmatch(name)))


def copy_newest(folder: Path, url: str, keep: int) -> None:
    """Copy the newest checkpoint of ``folder`` and its best one to the store; the last ``keep`` that are there stay."""
    with contextlib.ExitStack() as stack:
        # Opened in this order, and read from what was opened, whatever is renamed meanwhile: a latest state never
        # speaks of a best one that is newer than the one beside it.
        last = stack.enter_context((folder / LAST).open("rb"))
        best = stack.enter_context((folder / BEST).open("rb")) if (folder / BEST).exists() else None
        position = checkpoint.position_in(last)
        step = position.step + (position.first_phase.steps if position.first_phase else 0)  # of the whole run
        # First: no checkpoint of the store speaks of arrays that are not there.
        _copy_frozen(folder, {checkpoint.frozen_in(stream) for stream in (best, last) if stream is not None}, url)
        if best is not None:
            _copy(best, storage.join(url, BEST))
        _copy(last, _place(url, step))
    for old in steps(url)[:-keep]:
        storage.remove_file(_place(url, old))


def _copy_frozen(folder: Path, needed: set[str], url: str) -> None:
    needed = needed - {""}
    for name in needed.difference(storage.names(url)) if needed else ():
        with (folder / name).open("rb") as stream:
            _copy(stream, storage.join(url, name))


def _copy(stream: IO[bytes], url: str) -> None:
    stream.seek(0)
    with storage.writing(url) as target:
        shutil.copyfileobj(stream, target, 2**20)


def bring_back(url: str, folder: Path, passed_over: list[str]) -> int | None:
    """Put the newest whole checkpoint of the store into ``folder``, and the best one with it; its step.

    None when the store has none. What was wrong with those ``passed_over`` is put there. Raises DamagedCheckpoint when
    all are damaged, or the best one is.
    """
    found = steps(url)
    for step in reversed(found):
        try:
            with _fetched(_place(url, step), folder / LAST) as last:
                # The best one first: no latest state speaks of a best one that is not there.
                if _read(last, url).best_epoch:
                    with _fetched(storage.join(url, BEST), folder / BEST) as best:
                        _read(best, url)
            return step
        except DamagedCheckpoint as error:
            if step == found[0]:
                raise
            passed_over.append(str(error))
    return None


def _read(path: Path, url: str) -> Position:
    """Where the checkpoint at ``path`` stands, which is whole; the arrays that it leaves out come from the store."""
    try:
        with path.open("rb") as stream:
            frozen = checkpoint.frozen_in(stream)
    except Exception:  # damaged: the line below says how
        frozen = ""
    if frozen and not path.with_name(frozen).exists():
        with _fetched(storage.join(url, frozen), path.with_name(frozen)):
            pass
    return checkpoint.read(path)[1]


@contextlib.contextmanager
def _fetched(url: str, path: Path) -> Iterator[Path]:
    """A temporary local copy, which appears at ``path`` when the block raises nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.replacing(path) as temporary:
        try:
            with temporary.open("wb") as stream:
                for block in storage.blocks(url):
                    stream.write(block)
            yield temporary
        except FileNotFoundError:
            raise DamagedCheckpoint(f"Expected a checkpoint at {url}. Received: no such file.") from None
        except DamagedCheckpoint as error:
            raise DamagedCheckpoint(str(error).replace(str(temporary), url)) from None
