"""data=dataframe: a Spark DataFrame with an image (encoded bytes, or a path) and a label in each row.

A DataFrame has no path, so what it holds is first saved next to the prepared data sets (``save``): its rows once, by
its executors, in the columns that the settings name. Each row's stamp is a hash of its content: the same rows in the
same partitions are the same data set, whenever they were saved.
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing, Rows
from distributed_cls.dataset.sources import columns
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.dataset.sources.table import list_table
from distributed_cls.errors import UserError
from distributed_cls.spark import frames

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NAME = "dataframe"
_PATHS = "images.parquet"
_STAMP = "_stamp"
_SIZE = "_size"


def save(frame: "DataFrame", config: DataConfig, folder: str) -> None:
    """Save the columns of ``frame`` that ``config`` names to ``folder``, for ``list_frame``.

    The image is in ``bytes_column`` (binary), or else in ``path_column`` (text). Raises UserError: no such column.
    """
    optional = [name for name in (config.split_column, config.group_column) if name in frame.columns]
    types = dict(frame.dtypes)
    storage.make_folder(folder)
    if types.get(config.bytes_column) == "binary":
        chosen = frame.select(_needed(frame, config.bytes_column, config.label_column, *optional))
        write = functools.partial(_write_parts, folder=folder, image=config.bytes_column)
        frames.map_batches(chosen, write, "file string").collect()
    elif types.get(config.path_column) == "string":
        table = frame.select(_needed(frame, config.path_column, config.label_column, *optional)).toArrow()
        with storage.writing(storage.join(folder, _PATHS)) as stream:
            pq.write_table(table, stream)
    else:
        found = ", ".join(f"{name} ({kind})" for name, kind in frame.dtypes)
        raise UserError(
            f"Expected a DataFrame with encoded images in the column {config.bytes_column} (binary), or their paths in "
            f"the column {config.path_column} (string). Received: {found}. Set data.bytes_column or data.path_column."
        )


def _needed(frame: "DataFrame", *names: str) -> list[str]:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise UserError(
            f"Expected the column {missing[0]} in the DataFrame. Received: {', '.join(frame.columns)}. "
            "Set data.label_column, data.path_column or data.bytes_column."
        )
    return list(dict.fromkeys(names))


def _write_parts(batches: Iterator[pa.RecordBatch], folder: str, image: str) -> Iterator[pa.RecordBatch]:
    """Write the rows of one partition to a file of its number, with the size and the hash of each."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None, "runs in a Spark task"
    name = f"part-{context.partitionId():05d}.parquet"
    writer = None
    with storage.writing(storage.join(folder, name)) as stream:  # an attempt that is repeated replaces it
        for batch in batches:
            table = _described(pa.Table.from_batches([batch]), image)
            writer = writer or pq.ParquetWriter(stream, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    if writer is None:
        storage.remove_file(storage.join(folder, name))
    yield pa.RecordBatch.from_pydict({"file": [name]})


def _described(table: pa.Table, image: str) -> pa.Table:
    """The rows with two more columns: the bytes of the image, and a hash of the whole row."""
    images = table[image].combine_chunks()
    others = [name for name in table.column_names if name != image]
    rest = zip(*(pc.cast(table[name], pa.string()).to_pylist() for name in others), strict=True)
    stamps = [
        xxhash.xxh3_64_intdigest(data.as_py() or b"", seed=xxhash.xxh3_64_intdigest(repr(values).encode()))
        for data, values in zip(images, rest, strict=True)
    ]
    stamped = table.append_column(_STAMP, pa.array(np.asarray(stamps, np.uint64).view(np.int64)))
    return stamped.append_column(_SIZE, pc.fill_null(pc.binary_length(images), 0).cast(pa.int64()))


def list_frame(config: DataConfig, dataset_root: str) -> Listing:
    """The rows that ``save`` has written to the folder ``config.path``."""
    if config.path is None:
        raise UserError(
            "Expected a DataFrame, which only a program can give. Received: data.source=dataframe without one. "
            "Call launch.program.run or distributed_cls.api.run with images=…, or set data=parquet or data=table."
        )
    root = storage.absolute(config.path)
    files = storage.names(root)
    if _PATHS in files:
        return list_table(config, storage.join(root, _PATHS))
    rows = Rows()
    for file in files:
        place = storage.join(root, file)
        table = columns.read(place, config, images=True)
        with storage.open_read(place) as stream:
            facts = pq.read_table(stream, columns=[_SIZE, _STAMP]).to_pydict()
        labelled = columns.labels_and_splits(table, config, file)
        grouped = zip(labelled, columns.groups(table, config), strict=True)
        for number, ((label, split), group) in enumerate(grouped):
            rows.add(file, label, facts[_SIZE][number], facts[_STAMP][number], split, number, group)
    return Listing(root, rows.table(), config.bytes_column)


register(Source(NAME, list_frame, "a DataFrame with a row per image", "Give another DataFrame.", needs_path=False))
