"""Checks that a place can be read or written, before any work is lost; and which errors of reading are temporary."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator

import tenacity

from distributed_cls.errors import UserError
from distributed_cls.storage import files
from distributed_cls.storage.paths import is_url, join

# Errors of a disk or a network file system that another attempt may not meet.
_PASSING = {
    *(errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.ENOMEM, errno.ESTALE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.EREMOTEIO),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
}
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
ATTEMPTS = 4
# What the machine's owner puts right, by making room or by changing rights.
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_FIRST_WAIT = 0.1  # seconds, doubled each time


def may_pass(error: BaseException) -> bool:
    """Whether reading again may succeed: a busy or failing device, a network, a store's error of its own kind."""
    if isinstance(error, OSError) and not isinstance(error, _LASTING):
        return error.errno is None or error.errno in _PASSING  # stores raise OSError without a number
    return type(error).__module__.partition(".")[0] in (
        "aiohttp",
        "botocore",
        "aiobotocore",
        "asyncio",
        "gcsfs",
        "requests",
    )


def attempts(first_wait: float = _FIRST_WAIT, most: int = ATTEMPTS) -> tenacity.Retrying:
    """Call a function again, up to ``most`` times, while it raises what ``may_pass``; its last error is raised."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        wait=tenacity.wait_exponential(first_wait),
        stop=tenacity.stop_after_attempt(most),
        reraise=True,
    )


def reason_of(error: BaseException) -> str:
    """An error in a few words of one line."""
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:200]


def check_readable(path: str, setting: str) -> None:
    """UserError naming ``setting`` when there is nothing at ``path``, or when the store does not let us look."""
    try:
        found = files.exists(path)
    except UserError:
        raise
    except Exception as error:  # no rights, no credentials, no connection: every store has types of its own for these
        raise UserError(
            f"Expected {setting} to be a path or URL that can be read. "
            f"Received: {setting}={path} ({reason_of(error)}). "
            f"Check the credentials and the address in the environment, or set {setting} to another place."
        ) from None
    if not found:
        remedy = "Check it, and the store's address in the environment." if is_url(path) else f"Set {setting}=/a/path."
        raise UserError(
            f"Expected {setting} to be an existing folder, file or URL. Received: {setting}={path}. {remedy}"
        )


def check_writable(folder: str, setting: str) -> None:
    """Create ``folder`` and try a file in it; UserError naming ``setting`` when that is not allowed."""
    probe = join(folder, f".probe-{uuid.uuid4().hex}")
    try:
        files.make_folder(folder)
        files.write_bytes(probe, b"")
        files.remove_file(probe)
    except UserError:  # of the URL, with a remedy of its own
        raise
    except Exception as error:  # stores raise their own types for "not allowed"; each means the same to the user
        raise UserError(
            f"Expected {setting} to be a folder that can be written. Received: {setting}={folder} "
            f"({reason_of(error)}). Set {setting} to a folder of yours."
        ) from None


def check_place(folder: str, setting: str) -> None:
    """UserError naming ``setting`` when there is no such folder and none can be created.

    One that is there may be for reading only: that is enough to use what is in it.
    """
    try:
        there = files.exists(folder)
    except OSError:  # a folder above it may not be entered
        there = False
    if not there:
        check_writable(folder, setting)


def of_environment(error: BaseException) -> str | None:
    """The cause of an error that lies in the environment: a full disk, missing permission; None for any other.

    A Spark task's error arrives as text, wrapped by Spark, so the text is searched for the numbers.
    """
    for number in (*FULL, *FORBIDDEN):
        if f"[Errno {number}]" in str(error) or getattr(error, "errno", None) == number:
            return os.strerror(number)
    return None


@contextlib.contextmanager
def environment_named(expected: str, received: str, remedy: str) -> Iterator[None]:
    """Turn an error within the block that lies in the environment into one line: a UserError of three sentences."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = of_environment(error)
        if found is None:
            raise
        raise UserError(f"{expected} Received: {received} ({found}). {remedy}") from None
