"""Reading on the executors: image files, images inside Parquet tables, and byte ranges of prepared images."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.contracts.rejects import EMPTY, MISSING, TOO_MANY_BYTES, UNREADABLE
from distributed_cls.images.decode import Reject
from distributed_cls.text import to_file_name

T = TypeVar("T")

_OPEN_FILES = 64
_REMOTE_BATCH = 32  # files that are fetched together
_REMOTE_BYTES = 32 * 2**20  # and about how many bytes
_TABLE_ROWS = 64  # images of a Parquet table in memory at a time
# What a task waits in all for errors that may pass: a store that is down for good must not take hours to say so.
RETRY_SECONDS = 60.0
# A file that the listing could not look at either: a link to nowhere or to itself, a row of a table without its file.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)


class _Patience:
    """Repeats reads whose error may pass, with growing waits, while the task has waited less than ``RETRY_SECONDS``."""

    def __init__(self) -> None:
        self._waited = 0.0

    def call(self, read: Callable[[], T]) -> T:
        """What ``read`` gives; its last error is raised."""
        try:
            return read()  # nearly always enough, and nothing is set up for it
        except Exception as error:
            if self._waited >= RETRY_SECONDS or not storage.may_pass(error):
                raise
        retrying = storage.attempts(most=storage.ATTEMPTS - 1)
        try:
            return retrying(read)
        finally:
            self._waited += float(retrying.statistics.get("idle_for", 0.0))


def contents(root: str, rows: pa.Table, bytes_column: str | None, max_bytes: int) -> Iterator[bytes | Reject]:
    """The bytes of each listed image in order, or why they cannot be had. Files over ``max_bytes`` are not read."""
    patience = _Patience()
    if bytes_column:
        yield from _from_tables(root, rows, bytes_column, patience)
    elif storage.is_url(root):
        yield from _from_store(root, rows, max_bytes, patience)
    else:
        folder = to_file_name(root)
        columns = (rows[name].to_pylist() for name in ("path", "size", "stamp"))
        for path, size, stamp in zip(*columns, strict=True):
            file = os.path.join(folder, to_file_name(path))  # noqa: PTH118 - per image
            yield _too_large(size, max_bytes) or _from_file(file, stamp == 0, patience)


def _too_large(size: int, max_bytes: int) -> Reject | None:
    return Reject(TOO_MANY_BYTES, f"{size} bytes, at most {max_bytes}") if size > max_bytes else None


def _from_file(path: str, unseen: bool, patience: _Patience) -> bytes | Reject:
    """``unseen``: the listing could not look at the file, so that it is not there rather than just gone."""
    try:
        return patience.call(lambda: _read_regular(path))
    except OSError as error:
        missing = isinstance(error, _NotRegular) or (unseen and error.errno in _NO_FILE)
        missing |= error.errno == errno.ENXIO and Path(path).is_socket()
        return Reject(MISSING if missing else UNREADABLE, storage.reason_of(error))
    except ValueError as error:  # no name of a file: a NUL is in it
        return Reject(MISSING, storage.reason_of(error))


class _NotRegular(OSError):
    """A pipe, a device."""


def _read_regular(path: str) -> bytes:
    with open(path, "rb", buffering=0, opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise _NotRegular(errno.EINVAL, "not a regular file")
        return stream.readall()


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, when it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _from_store(root: str, rows: pa.Table, max_bytes: int, patience: _Patience) -> Iterator[bytes | Reject]:
    store, inside = storage.filesystem(root)
    paths, sizes, stamps = (rows[name].to_pylist() for name in ("path", "size", "stamp"))
    start = 0
    while start < len(paths):
        end, total = start, 0
        while end < len(paths) and end - start < _REMOTE_BATCH and total < _REMOTE_BYTES:
            total += min(sizes[end], max_bytes)
            end += 1
        wanted = [storage.join(inside, paths[n]) for n in range(start, end) if sizes[n] <= max_bytes]
        found = _fetch(store, wanted, patience)
        for number in range(start, end):
            refused = _too_large(sizes[number], max_bytes)
            yield refused or _fetched(found[storage.join(inside, paths[number])], stamps[number] == 0)
        start = end


def _fetch(store: Any, wanted: list[str], patience: _Patience) -> dict[str, bytes | BaseException]:
    """Every object, or the error that reading it ended with."""
    found: dict[str, bytes | BaseException] = {}

    def fetch() -> None:
        left = [name for name in wanted if not isinstance(found.get(name), bytes)]
        # Not cat, which takes names with [, * or ? for patterns.
        found.update(zip(left, store.cat_ranges(left, None, None, on_error="return"), strict=True))
        passing = [error for error in found.values() if isinstance(error, BaseException) and storage.may_pass(error)]
        if passing:
            raise passing[0]

    try:
        patience.call(fetch)
    except Exception as error:  # stores raise types of their own; the image's row tells it
        found.update({name: error for name in wanted if name not in found})
    return found


def _fetched(data: bytes | BaseException, unseen: bool) -> bytes | Reject:
    if isinstance(data, bytes):
        return data
    missing = unseen and isinstance(data, FileNotFoundError)
    return Reject(MISSING if missing else UNREADABLE, storage.reason_of(data))


def _from_tables(root: str, rows: pa.Table, bytes_column: str, patience: _Patience) -> Iterator[bytes | Reject]:
    paths, numbers = rows["path"].to_pylist(), rows["row"].to_pylist()
    position = 0
    while position < len(paths):
        path, wanted = paths[position], []
        while position < len(paths) and paths[position] == path:
            wanted.append(numbers[position])
            position += 1
        yield from _rows_again(storage.join(root, path) if path else root, wanted, bytes_column, patience)


def _rows_again(path: str, wanted: list[int], bytes_column: str, patience: _Patience) -> Iterator[bytes | Reject]:
    """The images in the rows ``wanted`` of one Parquet file; after an error, reading goes on with the next row."""
    done = 0
    stream: Iterator[bytes | Reject] | None = None

    def following() -> bytes | Reject:
        nonlocal stream
        if stream is None:
            stream = _rows_of_table(path, wanted[done:], bytes_column)
        try:
            return next(stream)
        except Exception:
            stream = None  # a generator that has raised gives nothing more
            raise

    while done < len(wanted):
        try:
            image = patience.call(following)
        except Exception as error:  # a disk, a store, a damaged file: each row tells it, and is read again next time
            for _ in wanted[done:]:
                yield Reject(UNREADABLE, storage.reason_of(error))
            return
        yield image
        done += 1


def _rows_of_table(path: str, wanted: list[int], bytes_column: str) -> Iterator[bytes | Reject]:
    """The images in the rows ``wanted`` (ascending) of one Parquet file, by row groups."""
    with storage.open_read(path) as stream:
        table = pq.ParquetFile(stream)
        first = position = 0
        for group in range(table.num_row_groups):
            last = first + table.metadata.row_group(group).num_rows
            start = position
            while position < len(wanted) and wanted[position] < last:
                position += 1
            if position > start:
                yield from _rows_of_group(table, group, [row - first for row in wanted[start:position]], bytes_column)
            first = last


def _rows_of_group(table: pq.ParquetFile, group: int, wanted: list[int], bytes_column: str) -> Iterator[bytes | Reject]:
    seen = position = 0
    for batch in table.iter_batches(batch_size=_TABLE_ROWS, row_groups=[group], columns=[bytes_column]):
        column = batch.column(0)
        if pa.types.is_struct(column.type):  # Hugging Face stores an image as {bytes, path}
            column = column.field("bytes")
        while position < len(wanted) and wanted[position] < seen + batch.num_rows:
            value = column[wanted[position] - seen].as_py()
            yield value if value is not None else Reject(EMPTY, "null")
            position += 1
        seen += batch.num_rows


def ranges(rows: pa.Table) -> Iterator[bytes]:
    """The byte ranges (file, offset, length) of ``rows``, in order."""
    files, offsets, lengths = (rows[name].to_pylist() for name in ("file", "offset", "length"))
    if files and storage.is_url(files[0]):
        yield from _remote_ranges(files, offsets, lengths)
        return
    descriptors: dict[str, int] = {}
    try:
        for file, offset, length in zip(files, offsets, lengths, strict=True):
            if file not in descriptors:
                if len(descriptors) >= _OPEN_FILES:
                    os.close(descriptors.pop(next(iter(descriptors))))
                descriptors[file] = os.open(to_file_name(file), os.O_RDONLY)
            data = os.pread(descriptors[file], length, offset)
            if len(data) != length:
                raise OSError(f"{file} ends before byte {offset + length}")
            yield data
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _remote_ranges(files: list[str], offsets: list[int], lengths: list[int]) -> Iterator[bytes]:
    store, _ = storage.filesystem(files[0])
    start = 0
    while start < len(files):
        end, total = start, 0
        while end < len(files) and end - start < 8 * _REMOTE_BATCH and total < _REMOTE_BYTES:
            total += lengths[end]
            end += 1
        inside = [storage.filesystem(file)[1] for file in files[start:end]]
        stops = [offset + length for offset, length in zip(offsets[start:end], lengths[start:end], strict=True)]
        yield from store.cat_ranges(inside, offsets[start:end], stops, on_error="raise")
        start = end
