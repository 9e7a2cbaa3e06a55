"""Sources that are tables: a list of paths and labels (CSV or Parquet), and Parquet tables that hold the images."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from distributed_cls.config import DataConfig
from distributed_cls.dataset import storage
from distributed_cls.dataset.listing import Listing, Rows, class_name, split_number, stamp_of, walk
from distributed_cls.errors import UserError


def list_table(config: DataConfig, root: str) -> Listing:
    """A CSV or Parquet file with a path and a label per image, and perhaps a split.

    Paths are absolute, or relative to the table's folder, or URLs that all lie in one bucket.
    """
    table = _read(root, config)
    folder = root.rsplit("/", 1)[0] or "/"
    paths = [str(path) for path in table[config.path_column].to_pylist()]
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
    try:
        with storage.open_read(file) as stream:
            if file.lower().endswith((".csv", ".tsv", ".txt")):
                delimiter = "\t" if file.lower().endswith(".tsv") else ","
                # All as text: a class named 007 must not become the number 7.
                kinds = {name: pa.string() for name in (*needed, config.split_column)}
                table = pa.csv.read_csv(
                    stream,
                    parse_options=pa.csv.ParseOptions(delimiter=delimiter),
                    convert_options=pa.csv.ConvertOptions(column_types=kinds),
                )
                columns = table.column_names
            else:
                parquet = pq.ParquetFile(stream)
                columns = parquet.schema_arrow.names
                wanted = [name for name in (*needed, config.split_column) if name in columns]
                table = parquet.read([name for name in wanted if not (images and name == config.bytes_column)])
    except (pa.ArrowInvalid, OSError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(
            f"Expected a CSV or Parquet table. Received: {file} ({what}). Set data.path to a .csv or .parquet file."
        ) from None
    for name in needed:
        if name not in columns:
            raise UserError(
                f"Expected the column {name}. Received: {file} with the columns {', '.join(columns)}. "
                "Set data.path_column, data.label_column or data.bytes_column."
            )
    return table


def _labels(table: pa.Table, config: DataConfig, file: str) -> Iterable[tuple[str, int]]:
    """(class name, split number) of each row."""
    labels = pc.cast(table[config.label_column], pa.string())
    if labels.null_count:
        row = labels.to_pylist().index(None)
        raise UserError(
            f"Expected a label in every row. Received: none in row {row} of {file}. Complete it, or remove the row."
        )
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
    parents = {path.rpartition("/")[0] for path in paths}
    known = {
        storage.join(parent, entry.parts[0]) if parent else entry.parts[0]: (entry.size, entry.stamp)
        for parent in sorted(parents)
        for entry in walk(storage.join(folder, parent) if parent else folder, recursive=False)
    }
    return (known.get(path, (0, 0)) for path in paths)


def _local_status(path: Path) -> tuple[int, int]:
    try:
        return stamp_of(path.stat())
    except OSError:
        return 0, 0
