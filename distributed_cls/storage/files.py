"""Whole files or none, on this machine and in remote stores.

Locally and on HDFS that takes a temporary name and a rename; an object store makes an object visible only when it is
complete.
A store's own cache of listings is never trusted: another process may have written since.
"""

import contextlib
import errno
import glob
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c

from distributed_cls.errors import UserError
from distributed_cls.storage.paths import StrPath, filesystem, has_folders, is_url, local, loses_writes
from distributed_cls.text import from_file_name

_BLOCK = 2**20


def _fresh(path: StrPath) -> tuple[Any, str]:
    """The store of a URL, without what it remembers of the folder that the path lies in."""
    store, inside = filesystem(path)
    store.invalidate_cache(inside)
    store.invalidate_cache(inside.rpartition("/")[0])
    return store, inside


def exists(path: StrPath) -> bool:
    """Whether a file or folder is there."""
    if not is_url(path):
        return local(path).exists()
    store, inside = _fresh(path)
    return bool(store.exists(inside))


def size(path: StrPath) -> int:
    """Bytes of a file; FileNotFoundError when there is none."""
    if not is_url(path):
        return local(path).stat().st_size
    store, inside = _fresh(path)
    return int(store.size(inside))


def open_read(path: StrPath) -> IO[bytes]:
    """A file opened for reading bytes."""
    if not is_url(path):
        return local(path).open("rb")
    store, inside = _fresh(path)
    stream: IO[bytes] = store.open(inside, "rb")
    return stream


def read_bytes(path: StrPath) -> bytes:
    """A whole file."""
    if not is_url(path):
        return local(path).read_bytes()
    store, inside = _fresh(path)
    return bytes(store.cat_file(inside))


def blocks(path: StrPath) -> Iterator[bytes]:
    """A file's bytes in blocks of 1 MiB, so that no file has to fit into memory."""
    with open_read(path) as stream:
        while block := stream.read(_BLOCK):
            yield block


def crc32c(path: StrPath) -> int:
    """The CRC-32C of a file's bytes."""
    crc = 0
    for block in blocks(path):
        crc = google_crc32c.extend(crc, block)
    return int(crc)


def names(folder: StrPath) -> list[str]:
    """The names in a folder, sorted; none when there is no such folder."""
    try:
        if not is_url(folder):
            return sorted(from_file_name(entry.name) for entry in local(folder).iterdir())
        store, inside = _fresh(folder)
        return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in store.ls(inside, detail=False)})
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_folder(folder: StrPath) -> None:
    """Create a folder and its parents; object stores need none."""
    if not is_url(folder):
        local(folder).mkdir(parents=True, exist_ok=True)
        return
    store, inside = filesystem(folder)
    if has_folders(store):
        store.makedirs(inside, exist_ok=True)


@contextlib.contextmanager
def _appearing(path: StrPath) -> Iterator[tuple[Any, str]]:
    """The store of a URL and the name to write there; what is written appears at ``path`` when the block succeeds."""
    store, inside = _fresh(path)
    if loses_writes(store):
        raise UserError(
            f"Expected a URL that can be written safely: what is written by WebHDFS can be lost without an error. "
            f"Received: {os.fspath(path)}. Use hdfs://host:port, with the extra hdfs installed."
        )
    if not has_folders(store):
        with store.transaction:
            yield store, inside
    else:
        folder, _, name = inside.rpartition("/")
        temporary = f"{folder}/.{name[:40]}.{uuid.uuid4().hex}.tmp"
        store.makedirs(folder, exist_ok=True)
        try:
            yield store, temporary
            store.mv(temporary, inside, overwrite=True)
        except BaseException:
            with contextlib.suppress(Exception):  # the error that is raised is the one that counts
                store.rm_file(temporary)
            raise
    store.invalidate_cache(inside)


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Give the path of a temporary local file; its content appears at ``path`` when the block ends without an error."""
    if is_url(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, "content")
            yield temporary
            with _appearing(path) as (store, name):
                store.put_file(str(temporary), name)
        return
    target = local(path)
    temporary = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.tmp")  # a file's name has 255 bytes
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: StrPath) -> Iterator[IO[bytes]]:
    """A stream whose content appears at ``path``, durably, only when the block ends without an error."""
    if is_url(path):
        with _appearing(path) as (store, name), store.open(name, "wb") as stream:
            yield stream
        return
    with replacing(path) as temporary, temporary.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut could leave the new name on an empty file


def write_bytes(path: StrPath, data: bytes) -> None:
    """Write a whole file, or nothing."""
    with writing(path) as stream:
        stream.write(data)


def write_text(path: StrPath, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: StrPath, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: StrPath, what: str, remedy: str) -> Any:
    """Read a JSON file that this project wrote. ``what`` and ``remedy`` go into the error for the user."""
    try:
        return json.loads(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"Expected {what} at {path}. Received: no such file. {remedy}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"Expected {what} at {path}. Received: damaged JSON ({error}). {remedy}") from None
    except OSError as error:
        raise UserError(f"Expected {what} at {path}. Received: {error.strerror or error}. {remedy}") from None


def remove_file(path: StrPath) -> None:
    """Remove a file; it is fine when there is none."""
    if not is_url(path):
        local(path).unlink(missing_ok=True)
        return
    store, inside = _fresh(path)
    with contextlib.suppress(FileNotFoundError):
        store.rm_file(inside)


def remove_folder(folder: StrPath) -> None:
    """Remove a folder with all that is in it; it is fine when another run has removed it."""
    if not is_url(folder):
        shutil.rmtree(local(folder), ignore_errors=True)
        return
    store, inside = _fresh(folder)
    with contextlib.suppress(FileNotFoundError):
        if glob.has_magic(inside):  # rm would take it for a pattern, and remove every folder that fits
            for name in store.find(inside):
                store.rm_file(name)
        else:
            store.rm(inside, recursive=True)


@contextlib.contextmanager
def replacing_folder(target: StrPath, keep_existing: bool = False) -> Iterator[Path]:
    """Give a temporary local folder; its files appear together as the folder ``target`` when the block succeeds.

    A folder that is there is replaced, or with ``keep_existing`` kept, and the new one dropped. Local targets only: a
    store has no folders to rename.
    """
    assert not is_url(target), "a store has no folders to rename"
    place = local(target)
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _move_folder(temporary, place, keep_existing)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_folder(temporary: Path, place: Path, keep_existing: bool) -> None:
    try:
        temporary.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        if keep_existing:
            return
        # A folder cannot be renamed onto a full one. The old one steps aside first: a reader in the moment between
        # finds none, never half of each.
        aside = temporary.with_suffix(".old")
        place.rename(aside)
        temporary.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
