"""What the driver and the ranks say alike when the disk of the run folder is full."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed_cls import storage
from distributed_cls.errors import UserError


class FullDisk(UserError):
    """There is no room for a file of the run; there may be later."""


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Raise FullDisk, one line, when the block finds the disk of ``folder`` full; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in storage.FULL:
            raise
        raise full_disk(error.filename or folder, error.errno) from None


@contextmanager
def full_disk_endured() -> Iterator[None]:
    """Pass over a write that finds the disk full: what it has to say is said again by the next one."""
    try:
        yield
    except OSError as error:
        if error.errno not in storage.FULL:
            raise


def full_disk(where: object, number: int = errno.ENOSPC) -> FullDisk:
    """The error for a disk on which ``where`` cannot be written any more."""
    return FullDisk(
        f"Expected room for the files of the run. Received: {where} ({os.strerror(number)}). "
        "Free some space, or set hydra.run.dir to another disk; the same command goes on from the last checkpoint."
    )
