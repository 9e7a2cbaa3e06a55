"""What the driver and the ranks say alike when the disk of the run folder is full."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed_cls import storage
from distributed_cls.errors import UserError


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Raise UserError, one line, when the block finds the disk of ``folder`` full; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in storage.FULL:
            raise
        raise full_disk(error.filename or folder, error.errno) from None


def full_disk(where: object, number: int = errno.ENOSPC) -> UserError:
    """The error for a disk on which ``where`` cannot be written any more."""
    return UserError(
        f"Expected room for the files of the run. Received: {where} ({os.strerror(number)}). "
        "Free some space, or set hydra.run.dir to another disk; the same command goes on from the last checkpoint."
    )
