"""Result folders on any file system that fsspec reaches: whole files or none, names in order."""

import os
import uuid
from typing import Any

import fsspec

# Spark names its S3 and local file systems differently from everyone else.
_SPARK_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://", "file:///": "/", "file:/": "/"}


def plain(path: str) -> str:
    """A path or URL as fsspec (and people) write it, also when Spark wrote it."""
    for theirs, ours in _SPARK_SCHEMES.items():
        if path.startswith(theirs):
            return ours + path[len(theirs) :]
    return path


def for_spark(path: str) -> str:
    """A path or URL as Spark's readers want it. Local paths become absolute."""
    if "://" not in path:
        return "file://" + os.path.abspath(path)  # noqa: PTH100  (text in, text out: no Path is wanted)
    return path.replace("s3://", "s3a://", 1) if path.startswith("s3://") else path


class Folder:
    """A folder of small files, local or remote."""

    def __init__(self, url: str) -> None:
        self.url = plain(url)
        self._system, self._root = fsspec.core.url_to_fs(self.url)

    def path(self, name: str) -> str:
        """Where ``name`` lies, as the file system calls it."""
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder ``name``; without a name: whether the folder itself exists."""
        return bool(self._system.exists(self.path(name) if name else self._root))

    def names(self) -> list[str]:
        """The names of the files directly inside, sorted; none when there is no such folder."""
        if not self._system.exists(self._root):
            return []
        self._system.invalidate_cache(self._root)
        entries = self._system.ls(self._root, detail=True)
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")

    def read(self, name: str) -> bytes:
        """The whole file."""
        data: bytes = self._system.cat_file(self.path(name))
        return data

    def open(self, name: str) -> Any:
        """The file, opened for reading."""
        return self._system.open(self.path(name), "rb")

    def write(self, name: str, data: bytes) -> None:
        """Write the whole file, or none: under a temporary name, which readers skip, and then renamed."""
        self._system.makedirs(self._root, exist_ok=True)
        temporary = self.path(f".{name}.{uuid.uuid4().hex}.tmp")
        try:
            self._system.pipe_file(temporary, data)
            self._system.mv(temporary, self.path(name))
        except BaseException:
            if self._system.exists(temporary):
                self._system.rm_file(temporary)
            raise


def read_file(path: str) -> bytes:
    """The bytes of one file, local or remote. Raises OSError (or what the file system raises)."""
    system, inner = fsspec.core.url_to_fs(plain(path))
    data: bytes = system.cat_file(inner)
    return data
