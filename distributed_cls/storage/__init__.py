"""Local paths and fsspec URLs through one door. Every write is whole or absent.

Locally that takes a temporary name and a rename; an object store makes an object visible only when it is complete.
"""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from distributed_cls.errors import UserError
from distributed_cls.storage import local_files

_BLOCK = 2**20
# Spark names its S3 and local file systems differently from everyone else.
_SPARK_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://", "file:///": "/", "file:/": "/"}


def is_url(path: str) -> bool:
    """Whether ``path`` names a remote store (s3://…, gs://…) and not a local file."""
    return "://" in path and not path.startswith("file://")


def absolute(path: str) -> str:
    """A path that means the same on every machine of the cluster: absolute, or the URL without a trailing slash."""
    if is_url(path):
        return path.rstrip("/")
    return str(Path(path.removeprefix("file://")).expanduser().resolve())


def plain(path: str) -> str:
    """A path or URL as fsspec (and people) write it, also when Spark wrote it."""
    for theirs, ours in _SPARK_SCHEMES.items():
        if path.startswith(theirs):
            return ours + path[len(theirs) :]
    return path


def for_spark(path: str) -> str:
    """A path or URL as Spark's readers want it. Local paths become absolute."""
    if not is_url(path):
        return f"file://{absolute(path)}"
    return path.replace("s3://", "s3a://", 1) if path.startswith("s3://") else path


def join(folder: str, *names: str) -> str:
    """``folder/name/…`` for paths and URLs alike."""
    return "/".join([folder.rstrip("/"), *names])


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URL, and the path inside it. Credentials come from the environment only."""
    try:
        return url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"Expected a path or a URL that an installed fsspec driver can open. Received: {path} ({error}). "
            "Install the driver, for example s3fs for s3://."
        ) from None


def is_s3(store: Any) -> bool:
    """Whether an fsspec filesystem is s3fs itself (and not, for example, a cache in front of it)."""
    return "s3" in ([store.protocol] if isinstance(store.protocol, str) else store.protocol)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_url(path):
        return Path(path).exists()
    store, inside = filesystem(path)
    return bool(store.exists(inside))


def size(path: str) -> int:
    """Bytes of a file; FileNotFoundError when there is none."""
    if not is_url(path):
        return Path(path).stat().st_size
    store, inside = filesystem(path)
    return int(store.size(inside))


def open_read(path: str) -> IO[bytes]:
    """A file opened for reading bytes."""
    return Path(path).open("rb") if not is_url(path) else fsspec.open(path, "rb").open()


def read_bytes(path: str) -> bytes:
    """A whole file."""
    if not is_url(path):
        return Path(path).read_bytes()
    store, inside = filesystem(path)
    return bytes(store.cat_file(inside))


def names(folder: str) -> list[str]:
    """The names in a folder, sorted; none when there is no such folder."""
    try:
        if not is_url(folder):
            return sorted(entry.name for entry in Path(folder).iterdir())
        store, inside = filesystem(folder)
        store.invalidate_cache(inside)
        return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in store.ls(inside, detail=False)})
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_folder(folder: str) -> None:
    """Create a folder and its parents; object stores need none."""
    if not is_url(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """A stream whose content appears at ``path`` only when the block ends without an error."""
    if is_url(path):
        store, inside = filesystem(path)
        with store.transaction, store.open(inside, "wb") as stream:
            yield stream
        return
    with local_files.writing(path) as stream:
        yield stream


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file, or nothing."""
    with writing(path) as stream:
        stream.write(data)


def remove_folder(folder: str) -> None:
    """Remove a folder with all that is in it; it is fine when another run has removed it."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    store, inside = filesystem(folder)
    with contextlib.suppress(FileNotFoundError):
        store.rm(inside, recursive=True)


def check_readable(path: str, setting: str) -> None:
    """UserError naming ``setting`` when there is nothing at ``path``, or when the store does not let us look."""
    try:
        found = exists(path)
    except UserError:
        raise
    except Exception as error:  # no rights, no credentials, no connection: every store has types of its own for these
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Expected {setting} to be a path or URL that can be read. Received: {setting}={path} ({reason}). "
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
        make_folder(folder)
        write_bytes(probe, b"")
        store, inside = filesystem(probe)
        store.rm(inside)
    except Exception as error:  # stores raise their own types for "not allowed"; each means the same to the user
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Expected {setting} to be a folder that can be written. Received: {setting}={folder} ({reason}). "
            f"Set {setting} to a folder of yours."
        ) from None


def blocks(path: str) -> Iterator[bytes]:
    """A file's bytes in blocks of 1 MiB, so that no file has to fit into memory."""
    with open_read(path) as stream:
        while block := stream.read(_BLOCK):
            yield block
