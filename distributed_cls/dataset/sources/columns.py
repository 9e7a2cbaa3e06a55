"""Shared by the sources that read tables: columns, labels and splits, checked."""

import itertools
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import split_number
from distributed_cls.errors import UserError
from distributed_cls.storage.tabular import TEXT_TABLES, class_labels, holds_bytes, read_text
from distributed_cls.text import class_name, printable

REMEDY = "Set data.path to a table with the images of two classes or more."
_SHOWN_COLUMNS = 20


def read(file: str, config: DataConfig, images: bool = False) -> pa.Table:
    """The columns that are needed, but not the images themselves. Raises UserError: unreadable, a column missing."""
    needed = [config.bytes_column if images else config.path_column, config.label_column]
    if config.group_column is not None:
        needed.append(config.group_column)
    wanted = [*needed, config.split_column]
    try:
        if file.lower().endswith(TEXT_TABLES):
            table = read_text(file, wanted)
            schema = table.schema
        else:
            with storage.open_read(file) as stream:
                parquet = pq.ParquetFile(stream)
                schema = parquet.schema_arrow
                _check_columns(file, schema, needed, wanted)
                table = parquet.read([name for name in wanted[images:] if name in schema.names])
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"Expected a Parquet table, or a CSV table in UTF-8. Received: {file} "
            f"({printable(storage.reason_of(error))}). Save it as one of these, or set data.path to another file."
        ) from None
    _check_columns(file, schema, needed, wanted)
    if images and not holds_bytes(schema.field(config.bytes_column).type):
        raise UserError(
            f"Expected encoded images in the column {config.bytes_column} (binary, or a struct with the field bytes). "
            f"Received: {file} with {schema.field(config.bytes_column).type}. "
            "Set data.bytes_column, or data=table for a table of paths."
        )
    return table.replace_schema_metadata(schema.metadata)


def _check_columns(file: str, schema: pa.Schema, needed: list[str], wanted: list[str]) -> None:
    shown = ", ".join(printable(f"'{name}'") for name in schema.names[:_SHOWN_COLUMNS])
    more = ", …" if len(schema.names) > _SHOWN_COLUMNS else ""
    for name in needed:
        if name not in schema.names:
            raise UserError(
                f"Expected the column {name}. Received: {file} with the columns {shown}{more}. "
                "Set data.path_column, data.label_column, data.bytes_column or data.group_column."
            )
    for name in wanted:
        if schema.names.count(name) > 1:
            raise UserError(
                f"Expected the column {name} once. Received: {file} with the columns {shown}{more}. "
                "Rename one of the two."
            )


def texts(table: pa.Table, column: str, file: str, what: str) -> pa.ChunkedArray:
    """A column as text. Raises UserError for a row without a value, or values that are no text."""
    values = table[column]
    try:
        found = pc.cast(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"Expected text or numbers in the column {column}. Received: {values.type} in {file}. Convert the column."
        ) from None
    missing = pc.or_kleene(pc.is_null(values, nan_is_null=True), pc.equal(pc.utf8_trim_whitespace(found), ""))
    row = pc.index(missing, True).as_py()
    if row >= 0:
        raise UserError(
            f"Expected a {what} in every row. Received: none in row {row} of {file} (the first row is 0). "
            "Complete it, or remove the row."
        )
    return found


def groups(table: pa.Table, config: DataConfig) -> Iterable[str | None]:
    """The group of each row; None where there is none. Raises UserError for values that are no text."""
    if config.group_column is None:
        return itertools.repeat(None, table.num_rows)
    values = table[config.group_column]
    try:
        found = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"Expected text or numbers in the column {config.group_column}. Received: {values.type}. Convert it."
        ) from None
    missing = pc.or_kleene(pc.is_null(values, nan_is_null=True), pc.equal(found, ""))
    listed: list[str | None] = pc.if_else(missing, pa.scalar(None, pa.string()), found).to_pylist()
    return listed


def labels_and_splits(table: pa.Table, config: DataConfig, file: str, split: int = -1) -> Iterable[tuple[str, int]]:
    """(class name, split number) of each row. split: of all rows, when the table has no column for it."""
    named = class_labels(table.schema, config.label_column)
    if named:
        number = table[config.label_column]
        in_range = pc.and_(pc.greater_equal(number, 0), pc.less(number, len(named)))
        number = pc.if_else(in_range, number, pa.scalar(None, number.type))  # Hugging Face writes -1 for "no label"
        column = table.schema.get_field_index(config.label_column)
        table = table.set_column(column, config.label_column, pa.array(named).take(number.combine_chunks()))
    found = texts(table, config.label_column, file, "label")
    names = {name: class_name(name.strip()) for name in found.unique().to_pylist()}
    splits: Iterable[int] = itertools.repeat(split, table.num_rows)
    if config.split_column in table.column_names:
        values = pc.cast(table[config.split_column], pa.string())
        numbers = {value: split_number(value, file) for value in values.unique().to_pylist()}
        splits = (numbers[value] for value in values.to_pylist())
    return zip((names[name] for name in found.to_pylist()), splits, strict=True)
