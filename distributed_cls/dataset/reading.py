"""Reading on the executors: image files, images inside Parquet tables, and byte ranges of prepared images."""

import io
import os
import stat
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.images.decode import TOO_MANY_BYTES, UNREADABLE, Reject

_OPEN_FILES = 64
_REMOTE_BATCH = 32  # files that are fetched together
_REMOTE_BYTES = 32 * 2**20  # and about how many bytes
_TABLE_ROWS = 64  # images of a Parquet table in memory at a time


def contents(root: str, rows: pa.Table, bytes_column: str | None, max_bytes: int) -> Iterator[bytes | Reject]:
    """The bytes of each listed image in order, or why they cannot be had. Files over ``max_bytes`` are not read."""
    if bytes_column:
        yield from _from_tables(root, rows, bytes_column)
    elif storage.is_url(root):
        yield from _from_store(root, rows, max_bytes)
    else:
        for path, size in zip(rows["path"].to_pylist(), rows["size"].to_pylist(), strict=True):
            yield _too_large(size, max_bytes) or _from_file(os.path.join(root, path))  # noqa: PTH118 - per image


def _too_large(size: int, max_bytes: int) -> Reject | None:
    return Reject(TOO_MANY_BYTES, f"{size} bytes, at most {max_bytes}") if size > max_bytes else None


def _from_file(path: str) -> bytes | Reject:
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return Reject(UNREADABLE, "not a regular file")
            return stream.readall()
    except OSError as error:
        return Reject(UNREADABLE, f"{error.strerror or error}")


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for somebody who writes into it, when it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _from_store(root: str, rows: pa.Table, max_bytes: int) -> Iterator[bytes | Reject]:
    store, inside = storage.filesystem(root)
    paths, sizes = rows["path"].to_pylist(), rows["size"].to_pylist()
    start = 0
    while start < len(paths):
        end, total = start, 0
        while end < len(paths) and end - start < _REMOTE_BATCH and total < _REMOTE_BYTES:
            total += min(sizes[end], max_bytes)
            end += 1
        wanted = [storage.join(inside, paths[n]) for n in range(start, end) if sizes[n] <= max_bytes]
        found = store.cat(wanted, on_error="return") if wanted else {}
        if isinstance(found, bytes):  # some stores answer a single path so
            found = {wanted[0]: found}
        for number in range(start, end):
            data = found.get(storage.join(inside, paths[number]))
            refused = _too_large(sizes[number], max_bytes)
            yield refused or (data if isinstance(data, bytes) else Reject(UNREADABLE, f"{data}"))
        start = end


def _from_tables(root: str, rows: pa.Table, bytes_column: str) -> Iterator[bytes | Reject]:
    paths, numbers = rows["path"].to_pylist(), rows["row"].to_pylist()
    position = 0
    while position < len(paths):
        path, wanted = paths[position], []
        while position < len(paths) and paths[position] == path:
            wanted.append(numbers[position])
            position += 1
        yield from _rows_of_table(storage.join(root, path) if path else root, wanted, bytes_column)


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
            yield value if value is not None else Reject(UNREADABLE, "null")
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
                descriptors[file] = os.open(file, os.O_RDONLY)
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


def read_table(path: str, columns: list[str]) -> pa.Table:
    """Some columns of a Parquet file."""
    return pq.read_table(io.BytesIO(storage.read_bytes(path)), columns=columns)
