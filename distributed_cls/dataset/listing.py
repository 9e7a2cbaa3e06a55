"""A list of images as one table of rows (path, row, label, size, stamp, split, group).

The table is Arrow, not Python objects: a million rows take tens of megabytes. Paths are relative to the listing's root,
so a moved or mirrored folder is still the same data.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from distributed_cls.contracts.index import LISTING_SCHEMA
from distributed_cls.errors import UserError
from distributed_cls.text import printable

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}
_CHUNK = 50_000


@dataclass(frozen=True)
class Listing:
    """All images of a source: ``table`` (``LISTING_SCHEMA``) sorted by path and row; ``root`` of its paths.

    ``bytes_column``: set when the files are Parquet tables that hold the images in that column.
    """

    root: str
    table: pa.Table
    bytes_column: str | None = None

    def classes(self) -> list[str]:
        """The class names, sorted by code point."""
        return sorted(self.table["label"].unique().to_pylist())

    def digest(self) -> str:
        """A hash that changes with every file that is added, changed or removed."""
        digest = hashlib.blake2b(digest_size=16)
        for batch in self.table.combine_chunks().to_batches(max_chunksize=_CHUNK):
            for column in batch.columns:
                if pa.types.is_string(column.type) and column.null_count == len(column):
                    continue  # no groups: the hash is that of a listing from before there were any
                # Not the raw buffers: a slice shares them with its neighbours.
                array = pa.concat_arrays([column])
                for buffer in array.buffers()[1:]:
                    digest.update(memoryview(buffer) if buffer is not None else b"-")
        return digest.hexdigest()


class Rows:
    """Collects rows and turns them into Arrow every so often."""

    def __init__(self) -> None:
        self._pending: list[tuple[Any, ...]] = []
        self._chunks: list[pa.Table] = []

    def add(
        self, path: str, label: str, size: int, stamp: int, split: int = -1, row: int = -1, group: str | None = None
    ) -> None:
        """One image."""
        self._pending.append((path, row, label, size, stamp, split, group))
        if len(self._pending) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        columns: list[Any] = list(zip(*self._pending, strict=True)) or [()] * len(LISTING_SCHEMA)
        self._chunks.append(
            pa.table([pa.array(c, f.type) for c, f in zip(columns, LISTING_SCHEMA, strict=True)], LISTING_SCHEMA)
        )
        self._pending = []

    def table(self) -> pa.Table:
        """All rows, sorted."""
        self._flush()
        return pa.concat_tables(self._chunks).sort_by([("path", "ascending"), ("row", "ascending")])


def relabelled(table: pa.Table, meaning: Mapping[str, tuple[str, int]]) -> pa.Table:
    """A listing whose label stood for (class, split number)."""
    coded = table["label"].combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    classes = pa.array([meaning[name][0] for name in names], pa.string()).take(coded.indices)
    splits = pa.array([meaning[name][1] for name in names], pa.int8()).take(coded.indices)
    for name, values in (("label", classes), ("split", splits)):
        table = table.set_column(table.schema.get_field_index(name), LISTING_SCHEMA.field(name), values)
    return table


def split_number(name: str | None, where: str) -> int:
    """The index in ``manifest.SPLITS`` of a split's name as people write it; -1 for none. Raises UserError."""
    name = (name or "").strip()
    if not name:
        return -1
    if name.lower() not in SPLIT_NAMES:
        raise UserError(
            f"Expected a split to be one of {', '.join(SPLIT_NAMES)}. Received: {printable(name)} in {where}. "
            "Correct it there."
        )
    return SPLIT_NAMES[name.lower()]
