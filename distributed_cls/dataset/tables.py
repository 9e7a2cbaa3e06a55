"""Sources that are tables: a list of paths and labels (CSV or Parquet), and Parquet tables that hold the images."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing, Rows, class_name, split_number
from distributed_cls.errors import UserError
from distributed_cls.storage.tabular import holds_bytes, read_text
from distributed_cls.storage.walk import stamp_of, walk
from distributed_cls.text import printable

_TEXT = (".csv", ".tsv", ".txt")
_SHOWN_COLUMNS = 20


def list_table(config: DataConfig, root: str) -> Listing:
    """A CSV or Parquet file with a path and a label per image, and perhaps a split.

    Paths are absolute, or relative to the table's folder, or URLs that all lie in one bucket.
    """
    table = _read(root, config)
    folder = root.rsplit("/", 1)[0] or "/"
    paths = _texts(table, config.path_column, root, "path").to_pylist()
    if paths and storage.is_url(paths[0]):
        folder = "/".join(paths[0].split("/", 3)[:3])
        outside = next((path for path in paths if not path.startswith(folder + "/")), None)
        if outside:
            raise UserError(
                f"Expected all paths of the table to lie in {folder}. Received: {outside} in {root}. "
                "Use one table per bucket."
            )
        paths = [path[len(folder) + 1 :] for path in paths]
    rows = Rows()
    found = _statuses(folder, paths)
    for path, (label, split), (size, stamp) in zip(paths, _labels(table, config, root), found, strict=True):
        rows.add(path, label, size, stamp, split)
    return Listing(folder, rows.table())


def list_parquet(config: DataConfig, root: str) -> Listing:
    """A Parquet file, or a folder of them, with the encoded images in one column and their labels in another."""
    if root.lower().endswith((".parquet", ".pq")):
        folder, _, name = root.rpartition("/")
        files = [entry for entry in walk(folder, recursive=False) if entry.parts == (name,)]
    else:
        folder = root
        files = sorted((e for e in walk(root) if e.parts[-1].endswith((".parquet", ".pq"))), key=lambda e: e.parts)
    rows = Rows()
    for entry in files:
        file = "/".join(entry.parts)
        table = _read(storage.join(folder, file), config, images=True)
        size = entry.size // max(1, table.num_rows)
        for number, (label, split) in enumerate(_labels(table, config, file)):
            rows.add(file, label, size, entry.stamp, split, number)
    return Listing(folder, rows.table(), config.bytes_column)


def _read(file: str, config: DataConfig, images: bool = False) -> pa.Table:
    """The columns that are needed, but not the images themselves. Raises UserError: unreadable, a column missing."""
    needed = [config.bytes_column if images else config.path_column, config.label_column]
    wanted = [*needed, config.split_column]
    try:
        if file.lower().endswith(_TEXT):
            table = read_text(file, wanted)
            schema = table.schema
        else:
            with storage.open_read(file) as stream:
                parquet = pq.ParquetFile(stream)
                schema = parquet.schema_arrow
                _check_columns(file, schema, needed, wanted)
                table = parquet.read([name for name in wanted[images:] if name in schema.names])
    except (pa.ArrowInvalid, OSError) as error:
        said = getattr(error, "strerror", None) or error
        what = printable(" ".join(str(said).split())[:200])
        raise UserError(
            f"Expected a Parquet table, or a CSV table in UTF-8. Received: {file} ({what}). "
            "Save it as one of these, or set data.path to another file."
        ) from None
    _check_columns(file, schema, needed, wanted)
    if images and not holds_bytes(schema.field(config.bytes_column).type):
        raise UserError(
            f"Expected encoded images in the column {config.bytes_column} (binary, or a struct with the field bytes). "
            f"Received: {file} with {schema.field(config.bytes_column).type}. "
            "Set data.bytes_column, or data=table for a table of paths."
        )
    return table


def _check_columns(file: str, schema: pa.Schema, needed: list[str], wanted: list[str]) -> None:
    shown = ", ".join(printable(f"'{name}'") for name in schema.names[:_SHOWN_COLUMNS])
    more = ", …" if len(schema.names) > _SHOWN_COLUMNS else ""
    for name in needed:
        if name not in schema.names:
            raise UserError(
                f"Expected the column {name}. Received: {file} with the columns {shown}{more}. "
                "Set data.path_column, data.label_column or data.bytes_column."
            )
    for name in wanted:
        if schema.names.count(name) > 1:
            raise UserError(
                f"Expected the column {name} once. Received: {file} with the columns {shown}{more}. "
                "Rename one of the two."
            )


def _texts(table: pa.Table, column: str, file: str, what: str) -> pa.ChunkedArray:
    """A column as text. Raises UserError for a row without a value, or values that are no text."""
    values = table[column]
    try:
        texts = pc.cast(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"Expected text or numbers in the column {column}. Received: {values.type} in {file}. Convert the column."
        ) from None
    missing = pc.or_kleene(pc.is_null(values, nan_is_null=True), pc.equal(pc.utf8_trim_whitespace(texts), ""))
    row = pc.index(missing, True).as_py()
    if row >= 0:
        raise UserError(
            f"Expected a {what} in every row. Received: none in row {row} of {file} (the first row is 0). "
            "Complete it, or remove the row."
        )
    return texts


def _labels(table: pa.Table, config: DataConfig, file: str) -> Iterable[tuple[str, int]]:
    """(class name, split number) of each row."""
    labels = _texts(table, config.label_column, file, "label")
    names = {name: class_name(name) for name in labels.unique().to_pylist()}
    splits: Iterable[int] = itertools.repeat(-1, table.num_rows)
    if config.split_column in table.column_names:
        values = pc.cast(table[config.split_column], pa.string())
        numbers = {value: split_number(value, file) for value in values.unique().to_pylist()}
        splits = (numbers[value] for value in values.to_pylist())
    return zip((names[name] for name in labels.to_pylist()), splits, strict=True)


def _statuses(folder: str, paths: list[str]) -> Iterable[tuple[int, int]]:
    """(bytes, stamp) of each file; zeros for one that is not there, which reading it will say better."""
    if not storage.is_url(folder):
        return (_local_status(Path(folder, path)) for path in paths)
    wanted = set(paths)
    parents = {path.rpartition("/")[0] for path in paths}
    known = {}
    for parent in sorted(parents):
        for entry in walk(storage.join(folder, parent) if parent else folder, recursive=False):
            path = storage.join(parent, entry.parts[0]) if parent else entry.parts[0]
            if path in wanted:
                known[path] = (entry.size, entry.stamp)
    return (known.get(path, (0, 0)) for path in paths)


def _local_status(path: Path) -> tuple[int, int]:
    try:
        return stamp_of(path.stat())
    except OSError:
        return 0, 0
