"""Every file below a folder or URL, with its size and a stamp that changes when the file changes."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_cls import storage
from distributed_cls.errors import UserError

_JUNK = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Entry:
    """A file below a folder: its path as parts below it, size in bytes, and a stamp that changes with it."""

    parts: tuple[str, ...]
    size: int
    stamp: int


def walk(root: str, recursive: bool = True) -> Iterator[Entry]:
    """Every file below a folder or URL, one folder at a time; hidden and system files are left out.

    A root that is not there has no files. Raises UserError for a folder that may not be read.
    """
    if storage.is_url(root):
        if storage.exists(root):
            yield from _walk_url(root, recursive)
    elif Path(root).is_dir():
        yield from _walk_local(root, (), recursive)


def ignored(name: str) -> bool:
    """Whether files and folders of this name are never images: hidden, or left by an operating system."""
    return name.startswith(".") or name.lower() in _JUNK


def _walk_local(folder: str, parts: tuple[str, ...], recursive: bool) -> Iterator[Entry]:
    folders = []
    try:
        entries = os.scandir(folder)
    except PermissionError:
        raise UserError(
            f"Expected a folder that can be read. Received: {folder}. Grant access to it, or move it out of data.path."
        ) from None
    with entries:
        for entry in entries:
            if ignored(entry.name):
                continue
            if entry.is_dir():
                if not _leads_back(entry):
                    folders.append(entry.name)
            else:
                yield Entry((*parts, entry.name), *_status(entry))
    for name in sorted(folders) if recursive else ():
        yield from _walk_local(os.path.join(folder, name), (*parts, name), recursive)  # noqa: PTH118 - a million times


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether a link to a folder points above itself: following it would never end."""
    if not entry.is_symlink():
        return False
    return os.path.realpath(os.path.dirname(entry.path)).startswith(os.path.realpath(entry.path))  # noqa: PTH120


def _status(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        return stamp_of(entry.stat())
    except OSError:  # a link to nowhere: listed all the same, so that reading it names it among the rejects
        return 0, 0


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """(bytes, stamp) of a local file."""
    return status.st_size, status.st_mtime_ns


def _walk_url(root: str, recursive: bool) -> Iterator[Entry]:
    store, inside = storage.filesystem(root)
    try:
        yield from (_walk_s3 if storage.is_s3(store) else _walk_folders)(store, inside, recursive)
    except PermissionError as error:
        raise UserError(
            f"Expected a folder that can be listed. Received: {root} ({error}). "
            "Give the credentials in the environment the right to list it, or set data.path to another folder."
        ) from None


def _walk_s3(store: Any, inside: str, recursive: bool) -> Iterator[Entry]:
    """Page by page: s3fs's own ``ls`` holds all objects of a folder at once, about 1 kB each.

    A recursive walk asks for all keys below the root in one sequence, not folder by folder.
    """
    bucket, key, _ = store.split_path(inside.rstrip("/"))
    prefix = f"{key}/" if key else ""
    asked = {"Bucket": bucket, "Prefix": prefix, **({} if recursive else {"Delimiter": "/"}), **store.req_kw}
    while True:
        page = store.call_s3("list_objects_v2", **asked)
        for info in page.get("Contents", ()):
            parts = tuple(info["Key"][len(prefix) :].split("/"))
            # An empty part: the object that stands for a folder, or a key that is no path.
            if all(part and not ignored(part) for part in parts):
                yield Entry(parts, int(info["Size"]), _remote_stamp(info))
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _walk_folders(store: Any, inside: str, recursive: bool) -> Iterator[Entry]:
    pending: list[tuple[str, tuple[str, ...]]] = [(inside.rstrip("/"), ())]
    while pending:
        folder, parts = pending.pop()
        for info in store.ls(folder, detail=True, refresh=True):
            name = info["name"].rstrip("/").rsplit("/", 1)[-1]
            if ignored(name) or info["name"].rstrip("/") == folder:
                continue
            if info["type"] == "directory":
                if recursive:
                    pending.append((info["name"].rstrip("/"), (*parts, name)))
            else:
                yield Entry((*parts, name), int(info["size"] or 0), _remote_stamp(info))
        store.invalidate_cache(folder)  # a listing of a million objects must not stay in memory


def _remote_stamp(info: dict[str, Any]) -> int:
    names = ("ETag", "etag", "md5Hash", "LastModified", "mtime")
    version = next((str(info[name]) for name in names if name in info), "")
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=7).digest(), "big")
