"""CSV files as tables of text, and which columns of a Parquet table may hold encoded images."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv

from distributed_cls import storage

_MARKS = (",", ";", "\t")


_HEADER_BYTES = 2**20


def read_text(file: str, wanted: Sequence[str]) -> pa.Table:
    """A CSV table (UTF-8, with a header). Its delimiter is the one that finds most of the ``wanted`` columns.

    Raises pyarrow.ArrowInvalid or OSError.
    """
    with storage.open_read(file) as stream:
        header = stream.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace").strip()
    usual = "\t" if file.lower().endswith(".tsv") else ","
    # Spreadsheets of many countries write semicolons. Where two marks find as many columns, the first is taken.
    found = [len({name.strip('"') for name in header.split(mark)} & set(wanted)) for mark in (usual, *_MARKS)]
    # All as text: a class named 007 must not become the number 7.
    kinds = dict.fromkeys(wanted, pa.string())
    with storage.open_read(file) as stream:
        return pa.csv.read_csv(
            stream,
            parse_options=pa.csv.ParseOptions(delimiter=(usual, *_MARKS)[found.index(max(found))]),
            convert_options=pa.csv.ConvertOptions(column_types=kinds),
        )


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):  # Hugging Face stores an image as {bytes, path}
        return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
