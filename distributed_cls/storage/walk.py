"""Every file below a folder or URL, with its size and a stamp that changes when the file changes."""

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distributed_cls.errors import UserError
from distributed_cls.storage import files, paths
from distributed_cls.text import from_file_name

# What cameras' cards, network drives, operating systems and picture managers leave among pictures; in lower case.
_JUNK = (
    *("thumbs.db", "ehthumbs*.db", "desktop.ini", "zbthumbnail.info", "picasa.ini", "icon\r", "albumart*.jpg"),  # files
    *("@eadir", "#recycle", "#snapshot", "synophoto_*", "synoindex_*", "synofile_thumb*"),  # Synology
    *("@recycle", "@recently-snapshot", "@__thumb", "@tmp"),  # QNAP
    *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS
    *("$recycle.bin", "recycler", "system volume information", "lost+found", "found.[0-9][0-9][0-9]"),  # disks
    *("*.lrdata", "*.lrcat*", "*.cocatalog", "ipod photo cache", "_gsdata_", "__pycache__", "~$*"),  # programs
)
_JUNK_NAME = re.compile("|".join(fnmatch.translate(pattern) for pattern in _JUNK), re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A file below a folder: its path as parts below it, size in bytes, and a stamp that changes with it.

    The parts are text (``text.from_file_name``). A file that cannot be looked at has size and stamp 0.
    """

    parts: tuple[str, ...]
    size: int
    stamp: int


@dataclass
class Omitted:
    """What a walk has left out: files and folders that are no pictures by their names, and links that lead back."""

    junk: int = 0
    junk_example: str = ""
    loops: int = 0
    loop_example: str = ""

    def note_junk(self, *parts: str) -> None:
        """One more file or folder, by its path."""
        self.junk += 1
        self.junk_example = self.junk_example or "/".join(parts)

    def note_loop(self, *parts: str) -> None:
        """One more link."""
        self.loops += 1
        self.loop_example = self.loop_example or "/".join(parts)


def walk(root: str, recursive: bool = True, omitted: Omitted | None = None) -> Iterator[Entry]:
    """Every file below a folder or URL, one folder at a time; hidden and system files are left out.

    A root that is not there has no files. ``omitted`` counts what is left out. Raises UserError for a folder that may
    not be read.
    """
    omitted = Omitted() if omitted is None else omitted
    if paths.is_url(root):
        if files.exists(root):
            yield from _walk_url(root, recursive, omitted)
        return
    folder = str(paths.local(root))
    if os.path.isdir(folder):  # noqa: PTH112 - the path is text from here on, a million times
        yield from _walk_local(folder, recursive, omitted)


def ignored(name: str) -> bool:
    """Whether files and folders of this name are never images: hidden, or left by an operating system or a tool."""
    return name.startswith(".") or _JUNK_NAME.fullmatch(name.lower()) is not None


@dataclass(frozen=True)
class _Folder:
    """A folder to look into: its path for the system and as parts below the root.

    real: its real path, after those of all folders above it that were reached through links.
    """

    path: str
    parts: tuple[str, ...]
    real: tuple[str, ...]


def _walk_local(root: str, recursive: bool, omitted: Omitted) -> Iterator[Entry]:
    pending = [_Folder(root, (), (os.path.realpath(root),))]
    while pending:  # and not by recursion: folders may lie in each other deeper than Python's calls
        inner: list[_Folder] = []
        yield from _entries(pending.pop(), inner, omitted)
        if recursive:
            pending += sorted(inner, key=lambda folder: folder.path, reverse=True)


def _entries(within: _Folder, inner: list[_Folder], omitted: Omitted) -> Iterator[Entry]:
    """The files in one folder; the folders in it are added to ``inner``."""
    folder, parts = within.path, within.parts
    try:
        entries = os.scandir(folder)
    except OSError as error:
        raise UserError(
            f"Expected a folder that can be read. Received: {from_file_name(folder)} ({error.strerror}). "
            "Grant access to it, or move it out of data.path."
        ) from None
    with entries:
        for entry in entries:
            name = from_file_name(entry.name)
            if ignored(name):
                omitted.note_junk(*parts, name)
            elif not _is_folder(entry):
                yield Entry((*parts, name), *_status(entry))
            elif real := _real_below(entry, within.real):
                inner.append(_Folder(entry.path, (*parts, name), real))
            else:
                omitted.note_loop(*parts, name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: listed as a file, so that reading it names it among the rejects
        return False


def _real_below(entry: os.DirEntry[str], real: tuple[str, ...]) -> tuple[str, ...]:
    """``real`` for a folder inside; empty for a link to a folder that it is reached from: to follow has no end."""
    if not entry.is_symlink():
        return (*real[:-1], os.path.join(real[-1], entry.name))  # noqa: PTH118
    target = os.path.realpath(entry.path)
    if any(os.path.commonpath([target, above]) == target for above in real):
        return ()
    return (*real, target)


def _status(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        return stamp_of(entry.stat())
    except OSError:  # a link to nowhere: listed all the same, so that reading it names it among the rejects
        return 0, 0


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """(bytes, stamp) of a local file."""
    return status.st_size, status.st_mtime_ns


def _walk_url(root: str, recursive: bool, omitted: Omitted) -> Iterator[Entry]:
    store, inside = paths.filesystem(root)
    try:
        yield from (_walk_s3 if paths.is_s3(store) else _walk_folders)(store, inside, recursive, omitted)
    except PermissionError as error:
        raise UserError(
            f"Expected a folder that can be listed. Received: {root} ({error}). "
            "Give the credentials in the environment the right to list it, or set data.path to another folder."
        ) from None


def _walk_s3(store: Any, inside: str, recursive: bool, omitted: Omitted) -> Iterator[Entry]:
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
            if not parts[-1]:  # the object that stands for a folder
                continue
            if any(not part or ignored(part) for part in parts):  # an empty part: a key that is no path
                omitted.note_junk(*parts)
            else:
                yield Entry(parts, int(info["Size"]), _remote_stamp(info))
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _walk_folders(store: Any, inside: str, recursive: bool, omitted: Omitted) -> Iterator[Entry]:
    pending: list[tuple[str, tuple[str, ...]]] = [(inside.rstrip("/"), ())]
    while pending:
        folder, parts = pending.pop()
        for info in store.ls(folder, detail=True, refresh=True):
            name = info["name"].rstrip("/").rsplit("/", 1)[-1]
            if info["name"].rstrip("/") == folder:
                continue
            if ignored(name):
                omitted.note_junk(*parts, name)
            elif info["type"] == "directory":
                if recursive:
                    pending.append((info["name"].rstrip("/"), (*parts, name)))
            else:
                yield Entry((*parts, name), int(info["size"] or 0), _remote_stamp(info))
        store.invalidate_cache(folder)  # a listing of a million objects must not stay in memory


def _remote_stamp(info: dict[str, Any]) -> int:
    names = ("ETag", "etag", "md5Hash", "LastModified", "mtime")
    version = next((str(info[name]) for name in names if name in info), "")
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=7).digest(), "big")
