"""CSV files as tables of text, as people's programs write them, and which Parquet columns may hold encoded images."""

import csv
import io
import json
import re
from collections.abc import Sequence
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from distributed_cls.errors import UserError
from distributed_cls.storage.files import read_bytes
from distributed_cls.storage.paths import is_url, local, plain
from distributed_cls.text import printable

TEXT_TABLES = (".csv", ".tsv", ".txt")
_DELIMITERS = (",", ";", "\t", "|")
# Excel's way to name the delimiter, in a line of its own before the header.
_NAMED_DELIMITER = re.compile(r'("?)sep=(.)\1(\r\n?|\n)', re.IGNORECASE)
_LONGEST_HEADER = 100_000  # characters
_LEAST_BLOCK, _LARGEST_BLOCK = 2**20, 2**31 - 1  # bytes that the CSV reader takes at a time
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def read_text(file: str, wanted: Sequence[str]) -> pa.Table:
    """A CSV table with a header, in UTF-8, -16 or -32. Its delimiter is the one that finds most ``wanted`` columns.

    Raises pyarrow.ArrowInvalid or OSError.
    """
    text = _decoded(read_bytes(file))
    usual = "\t" if file.lower().endswith(".tsv") else ","
    if named := _NAMED_DELIMITER.match(text):
        usual, text = named[2], text[named.end() :]
    # Spreadsheets of many countries write semicolons. Where two delimiters find as many columns, the first is taken.
    marks = (usual, *_DELIMITERS)
    headers = [_header(text, mark) for mark in marks]
    found = [len({name.strip() for name in header} & set(wanted)) for header in headers]
    best = found.index(max(found))
    data = text.encode()
    # All as text: a class named 007 must not become the number 7. In one block: a field may be longer than any other.
    table = pa.csv.read_csv(
        io.BytesIO(data),
        pa.csv.ReadOptions(block_size=min(max(len(data), _LEAST_BLOCK), _LARGEST_BLOCK)),
        pa.csv.ParseOptions(delimiter=marks[best], newlines_in_values=True),
        pa.csv.ConvertOptions(column_types=dict.fromkeys((*wanted, *headers[best]), pa.string())),
    )
    return _without_spaces(table)


def _decoded(data: bytes) -> str:
    other = next((name for start, name in _OTHER_FILES.items() if data.startswith(start)), None)
    if other:
        raise pa.ArrowInvalid(f"it is {other}")
    encoding = json.detect_encoding(data)  # by its mark or its zeros: a header begins with ASCII, as JSON does
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise pa.ArrowInvalid(f"line {line} is not {encoding.removesuffix('-sig').upper()}") from None


def _header(text: str, delimiter: str) -> list[str]:
    """The columns' names as the CSV reader gives them: the first row that is not empty."""
    start = text[:_LONGEST_HEADER].replace("\0", "")  # which Python 3.10 refuses
    return next(filter(None, csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)), [])


def _without_spaces(table: pa.Table) -> pa.Table:
    """Names of columns without spaces around them; the space that some write after each delimiter is no value."""
    header_has_them = any(name.startswith(" ") for name in table.column_names)
    columns = [
        pc.utf8_ltrim(column, " ")
        if pa.types.is_string(column.type) and (header_has_them or (number and _all_begin_with_space(column)))
        else column
        for number, column in enumerate(table.columns)
    ]
    return pa.table(columns, names=[name.strip() for name in table.column_names])


def _all_begin_with_space(column: pa.ChunkedArray) -> bool:
    return len(column) > 0 and bool(pc.all(pc.starts_with(column, " ")).as_py())


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):  # Hugging Face stores an image as {bytes, path}
        if kind.get_field_index("bytes") < 0:
            return False
        kind = kind.field("bytes").type
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


def listed_path(folder: str, path: str, row: int, file: str) -> str:
    """A path in a table that lies in ``folder``, as this machine writes it. URLs stay.

    Without file://, and with slashes, unless a file is really called as it stands. Raises UserError for one of Windows.
    """
    if is_url(path):
        return path
    if _DRIVE.match(path):
        raise UserError(
            f"Expected paths of this machine. Received: {printable(path)} in row {row} of {file}, "
            "a path of Windows. Write the paths relative to the table's folder, with / or \\."
        )
    path = path.removeprefix("./")  # as find writes them; an object of a store is never called so
    if path.startswith("file:"):
        path = plain(path)
        return unquote(path) if "%" in path and not _is_there(folder, path) else path
    if "\\" in path and not _is_there(folder, path):
        return path.replace("\\", "/")
    return path


def _is_there(folder: str, path: str) -> bool:
    try:
        return not is_url(folder) and local(folder).joinpath(local(path)).exists()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL in it
        return False
