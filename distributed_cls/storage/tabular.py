"""CSV files as tables of text, as people's programs write them, and which Parquet columns may hold encoded images."""

import codecs
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from distributed_cls.storage.files import read_bytes

TEXT_TABLES = (".csv", ".tsv", ".txt")
_DELIMITERS = (",", ";", "\t", "|")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: str, wanted: Sequence[str]) -> pa.Table:
    """A CSV table with a header, in UTF-8 or UTF-16. Its delimiter is the one that finds most ``wanted`` columns.

    Raises pyarrow.ArrowInvalid or OSError.
    """
    text = _decoded(read_bytes(file))
    usual = "\t" if file.lower().endswith(".tsv") else ","
    header, _, rest = text.partition("\n")
    if header.strip().lower().startswith("sep=") and len(header.strip()) == 5:  # Excel's way to name the delimiter
        usual, text = header.strip()[4], rest
        header = rest.partition("\n")[0]
    # Spreadsheets of many countries write semicolons. Where two delimiters find as many columns, the first is taken.
    found = [
        len({name.strip().strip('"').strip() for name in header.split(mark)} & set(wanted))
        for mark in (usual, *_DELIMITERS)
    ]
    delimiter = (usual, *_DELIMITERS)[found.index(max(found))]
    names = _names(header, delimiter)
    # All as text: a class named 007 must not become the number 7.
    table = pa.csv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys((*wanted, *names), pa.string())),
    )
    return _without_spaces(table)


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise pa.ArrowInvalid(f"line {line} is not {encoding.removesuffix('-sig').upper()}") from None


def _names(header: str, delimiter: str) -> list[str]:
    """The columns' names as the CSV reader gives them, for setting their types."""
    return [name.strip("\r").removeprefix('"').removesuffix('"') for name in header.split(delimiter)]


def _without_spaces(table: pa.Table) -> pa.Table:
    """Names of columns without spaces around them; the space that some write after each delimiter is no value."""
    header_has_them = any(name.startswith(" ") for name in table.column_names)
    columns = [
        pc.utf8_ltrim(column, " ") if header_has_them or (number and _all_begin_with_space(column)) else column
        for number, column in enumerate(table.columns)
    ]
    return pa.table(columns, names=[name.strip() for name in table.column_names])


def _all_begin_with_space(column: pa.ChunkedArray) -> bool:
    return len(column) > 0 and bool(pc.all(pc.starts_with(column, " ")).as_py())


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):  # Hugging Face stores an image as {bytes, path}
        return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
    checks = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        getattr(pa.types, "is_binary_view", lambda _: False),
    )
    return any(check(kind) for check in checks)


def class_labels(schema: pa.Schema, column: str) -> list[str]:
    """The class names of an integer column, as Hugging Face datasets write them into the schema; else none."""
    if not pa.types.is_integer(schema.field(column).type):
        return []
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
