"""Paths and fsspec URLs as text. Inside the program every path is valid text (``text.from_file_name``)."""

import os
import re
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from distributed_cls.errors import UserError
from distributed_cls.text import from_file_name, to_file_name

StrPath = str | os.PathLike[str]

# Spark names its S3 and local file systems differently from everyone else.
_SPARK_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://", "file://localhost/": "/", "file:///": "/", "file:/": "/"}

# hdfs-native's clients wait for the end of their threads when they are dropped. fsspec drops all of its file systems in
# a forked child (Spark's JVM begins as one), where these threads are not: it would wait for ever. So they are kept.
_kept: dict[int, Any] = {}


def is_url(path: StrPath) -> bool:
    """Whether ``path`` names a remote store (s3://…, gs://…) and not a local file."""
    text = os.fspath(path)
    return "://" in text and not text.startswith("file:")


def plain(path: str) -> str:
    """A path or URL as fsspec (and people) write it, also when Spark wrote it."""
    for theirs, ours in _SPARK_SCHEMES.items():
        if path.startswith(theirs):
            return ours + path[len(theirs) :]
    return path


def absolute(path: str) -> str:
    """A path that means the same on every machine of the cluster: absolute, or the URL without a trailing slash.

    Raises UserError for a URL of a whole store.
    """
    if is_url(path):
        store, _, inside = path.partition("://")
        if not inside.strip("/"):
            raise UserError(
                f"Expected a URL with a bucket or folder in it. Received: {path}. Write {store}://name/folder."
            )
        return path.rstrip("/")
    return from_file_name(str(local(plain(path)).expanduser().resolve()))


def local(path: StrPath) -> Path:
    """The file or folder of this machine that a path means."""
    return Path(to_file_name(os.fspath(path)))


def for_spark(path: str) -> str:
    """A path or URL as Spark's writers want it. Local paths become absolute."""
    if not is_url(path):
        return f"file://{absolute(path)}"
    return path.replace("s3://", "s3a://", 1) if path.startswith("s3://") else path


def for_spark_reader(path: str) -> str:
    """A path or URL as Spark's readers want it, which take ``[1]`` and the like for a pattern otherwise."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", for_spark(path))


def join(folder: str, *names: str) -> str:
    """``folder/name/…`` for paths and URLs alike."""
    return "/".join([folder.rstrip("/"), *names])


def filesystem(path: StrPath) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URL, and the path inside it. Credentials come from the environment only."""
    text = os.fspath(path)
    if not is_url(text):  # fsspec would take a :: in it for one of its chains
        return fsspec.filesystem("file"), to_file_name(text)
    try:
        store, inside = url_to_fs(text)
    except (ImportError, ValueError, OSError) as error:  # OSError: pyarrow's HDFS where there is no libhdfs
        raise UserError(
            f"Expected a path or a URL that an installed fsspec driver can open. Received: {text} "
            f"({' '.join(str(error).split())[:200]}). Install the driver: the extra s3 for s3://, hdfs for hdfs://."
        ) from None
    if has_folders(store):
        _kept[id(store)] = store
    return store, str(inside)


def has_folders(store: Any) -> bool:
    """Whether a store has folders and renames in one step, as HDFS does; an object store has keys and transactions."""
    return not {"hdfs", "viewfs"}.isdisjoint(_protocols(store))


def loses_writes(store: Any) -> bool:
    """Whether fsspec's driver drops, without an error, what is written in a transaction: WebHDFS does."""
    return not {"webhdfs", "webHDFS"}.isdisjoint(_protocols(store))


def is_s3(store: Any) -> bool:
    """Whether an fsspec filesystem is s3fs itself (and not, for example, a cache in front of it)."""
    return "s3" in _protocols(store)


def _protocols(store: Any) -> set[str]:
    return {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
