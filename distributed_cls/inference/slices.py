"""Which images a predict job classifies, cut into parts: written down once, so that a restarted job goes on."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.config.inference_sections import PredictConfig
from distributed_cls.contracts import predict_output
from distributed_cls.contracts.predict_output import InputSlice, PredictJob
from distributed_cls.errors import UserError
from distributed_cls.inference.bulk import Item, file_item, truth_from_path
from distributed_cls.storage.tabular import class_labels, holds_bytes, listed_path, read_text
from distributed_cls.storage.walk import walk
from distributed_cls.text import class_name, first_line, printable

_BYTES_COLUMNS = ("content", "image_bytes", "image", "bytes", "data")
_PATH_COLUMNS = ("path", "image_path", "file_name", "key", "id")
_TRUTH_COLUMNS = ("truth", "label", "class")
_TABLES = (".parquet", ".pq")
_LISTS = (".csv", ".tsv")  # of paths
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_REMEDY = "Set data.path to a folder of images, a CSV list of their paths, a folder of Parquet files, or table:<name>."
COST_OF_AN_IMAGE = 20_000  # bytes that an image of no size would be worth: opening, resizing, the model


def refuse_inside(source: str, output: str) -> None:
    """Raise UserError when the results would come to lie among the images, where the next look would find them."""
    if output == source or output.startswith(source.rstrip("/") + "/"):
        raise UserError(
            f"Expected output to lie outside of data.path. Received: output={output}, data.path={source}. "
            "Its files would be taken for images: choose another output."
        )


def find_slices(source: str) -> list[InputSlice]:
    """Everything under ``source`` (absolute), in the order of the paths. Raises UserError when there is nothing.

    A folder of Parquet files, or one such file, is a table of image bytes; a CSV file is a list of paths; any other
    folder holds image files.
    """
    system, root = storage.filesystem(source)
    if not system.exists(root):
        raise UserError(f"Expected images at data.path. Received: {source}: no such file or folder. {_REMEDY}")
    if PurePath(source).suffix.lower() in _LISTS and system.isfile(root):
        return _listed(source)
    if system.isfile(root):
        files = {source: int(system.size(root))}
    else:
        found = (entry for entry in walk(source) if not _ignored(entry.parts))
        files = dict(sorted((storage.join(source, *entry.parts), entry.size) for entry in found))
    tables = [path for path in files if path.lower().endswith(_TABLES)]
    if not files:
        raise UserError(f"Expected images at data.path. Received: {source}: no file in it. {_REMEDY}")
    if not tables:
        return [InputSlice(path, None, 1, size) for path, size in files.items()]
    picture = next((path for path in files if path.lower().endswith(_PICTURES)), None)
    if picture:
        raise UserError(
            f"Expected data.path to hold either image files or Parquet tables. Received: {tables[0]} beside {picture}. "
            "Move them apart, and run the job once for each."
        )
    entries = [entry for path in tables for entry in _row_groups(path)]
    if not entries:
        raise UserError(f"Expected images at data.path. Received: {source}: no row in its Parquet tables. {_REMEDY}")
    return entries


def _ignored(parts: tuple[str, ...]) -> bool:
    """Whether a name below data.path begins with ``_``: so Spark marks what it writes beside its tables.

    Cameras and people name pictures and their folders so as well.
    """
    return any(name.startswith("_") for name in parts) and not parts[-1].lower().endswith(_PICTURES)


def _listed(source: str) -> list[InputSlice]:
    """The images of a CSV file with a column of paths (absolute, or from its folder on) and perhaps their classes."""
    try:
        table = read_text(source, (*_PATH_COLUMNS, *_TRUTH_COLUMNS))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"Expected {source} to be a CSV list of images. Received: {printable(first_line(error))}."
        ) from None
    _check_once(source, table.schema)
    path = next((name for name in _PATH_COLUMNS if name in table.column_names), None)
    if path is None or table.num_rows == 0:
        raise UserError(
            f"Expected {source} to list images in a column named {' or '.join(_PATH_COLUMNS)}. "
            f"Received: {table.num_rows} rows of {', '.join(table.column_names)}. Name the column of their paths so."
        )
    truth = next((name for name in _TRUTH_COLUMNS if name in table.column_names), None)
    classes = table[truth].to_pylist() if truth else [None] * table.num_rows
    folder = source.rsplit("/", 1)[0]
    return [
        InputSlice(_beside(folder, listed_path(folder, name, row, source)), None, 1, 0, label)
        for row, (name, label) in enumerate(zip(table[path].to_pylist(), classes, strict=True))
    ]


def _check_once(path: str, schema: pa.Schema) -> None:
    for name in (*_BYTES_COLUMNS, *_PATH_COLUMNS, *_TRUTH_COLUMNS):
        if schema.names.count(name) > 1:
            raise UserError(
                f"Expected the column {name} once. Received: {path} with the columns "
                f"{printable(', '.join(schema.names))}. Rename one of the two."
            )


def _beside(folder: str, path: str) -> str:
    return path if path.startswith("/") or storage.is_url(path) else storage.join(folder, path)


def _row_groups(path: str) -> Iterator[InputSlice]:
    with storage.open_read(path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"Expected {path} to be a Parquet file. Received: {first_line(error)}. Remove it, or write it again."
            ) from error
        bytes_column(path, file.schema_arrow)
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            if group.num_rows:
                yield InputSlice(path, index, group.num_rows, group.total_byte_size)


def bytes_column(path: str, schema: pa.Schema) -> str:
    """The column of a table that holds encoded images. Raises UserError that names what there is instead."""
    _check_once(path, schema)
    for name in _BYTES_COLUMNS:
        if name in schema.names and holds_bytes(schema.field(name).type):
            return name
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UserError(
        f"Expected {path} to have a binary column named {', '.join(_BYTES_COLUMNS[:-1])} or {_BYTES_COLUMNS[-1]}. "
        f"Received: {columns}. Rename the column that holds the encoded images."
    )


def cut(entries: list[InputSlice], settings: PredictConfig, slots: int) -> list[list[InputSlice]]:
    """The entries in parts of about equal work, in order; a whole number of parts per slot when there are enough."""
    images = sum(entry.images for entry in entries)
    size = sum(entry.size for entry in entries)
    wanted = max(-(-images // settings.part_images), -(-size // (settings.part_megabytes * 2**20)), 1)
    parts = min(-(-wanted // slots) * slots, len(entries))
    total = sum(_cost(entry) for entry in entries)
    cuts: list[list[InputSlice]] = [[] for _ in range(parts)]
    done = 0
    for entry in entries:
        # An entry goes where its middle lies, so that the last part is no smaller than the others.
        cuts[min((done + _cost(entry) // 2) * parts // total, parts - 1)].append(entry)
        done += _cost(entry)
    return [part for part in cuts if part]


def _cost(entry: InputSlice) -> int:
    return entry.size + COST_OF_AN_IMAGE * entry.images


def items(part: list[InputSlice], classes: list[str]) -> Iterator[Item]:
    """The images of a part."""
    for entry in part:
        if entry.row_group is None:
            truth = _truth(entry.truth, classes) or truth_from_path(entry.path, classes)
            yield file_item(entry.path, truth, entry.size)
        else:
            yield from _table_items(entry, classes)


def unread_labels(entries: list[InputSlice], classes: list[str]) -> str:
    """The table (the first) whose labels are numbers that no class is called and no schema explains; else empty."""
    path = next((entry.path for entry in entries if entry.row_group is not None), None)
    if path is None or any(name.isdecimal() for name in classes):
        return ""
    with storage.open_read(path) as stream:
        schema = pq.read_schema(stream)
    column = next((name for name in _TRUTH_COLUMNS if name in schema.names), None)
    if column is None or not pa.types.is_integer(schema.field(column).type) or class_labels(schema, column):
        return ""
    return f"{path} (column {column})"


def _table_items(entry: InputSlice, classes: list[str]) -> Iterator[Item]:
    with storage.open_read(entry.path) as stream:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        data = bytes_column(entry.path, schema)
        path = next((name for name in _PATH_COLUMNS if name in schema.names), None)
        truth = next((name for name in _TRUTH_COLUMNS if name in schema.names), None)
        columns = [name for name in (data, path, truth) if name]
        numbered = class_labels(schema, truth) if truth else []
        number = 0
        for batch in file.iter_batches(32, row_groups=[entry.row_group], columns=columns):
            images = batch.column(data).to_pylist()
            names = _texts(batch.column(path)) if path else [None] * len(images)
            labels = [None] * len(images)
            if truth:
                labels = batch.column(truth).to_pylist() if numbered else _texts(batch.column(truth))
            for image, name, label in zip(images, names, labels, strict=True):
                name = f"{entry.path}#{entry.row_group}:{number}" if name is None else name
                yield Item(name, lambda value=image: _bytes_of(value), _truth(label, classes, numbered))  # type: ignore[misc]
                number += 1


def _texts(column: pa.Array) -> list[Any]:
    """Values as the text that the preparation reads in them; none where they are no text, number or the like."""
    try:
        return list(pc.cast(column, pa.string()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return [None] * len(column)


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes")
    return b"" if value is None else bytes(value)


def _truth(value: Any, classes: list[str], numbered: Sequence[str] = ()) -> str | None:
    """The class that a label stands for, as the preparation reads it; None for a word that is no class.

    A number is a place in ``numbered``, the names that the table's schema gives; without them it is a name itself.
    """
    if numbered and isinstance(value, int):
        value = numbered[value] if 0 <= value < len(numbered) else ""
    name = "" if value is None else class_name(str(value).strip())  # a class may be called None
    return name if name in classes else None


def save(output: str, parts: list[list[InputSlice]], job: PredictJob) -> None:
    """Write the plan down; the job last, so that there is none without its plan."""
    storage.check_writable(output, "output")
    predict_output.write_plan(output, parts)
    predict_output.write_predict_job(output, job)


def load(output: str, job: PredictJob) -> list[list[InputSlice]] | None:
    """The plan that an earlier start of the same job wrote, or None. Raises UserError when it was another job."""
    before = predict_output.read_predict_job(output)
    if before is None:
        if any(name.endswith(".parquet") and not name.startswith((".", "_")) for name in storage.names(output)):
            raise UserError(
                f"Expected output to be new, or to hold results of this job. Received: output={output}, "
                "which holds other Parquet files. Choose another output."
            )
        return None
    now = job.settings()
    changed = {name: value for name, value in before.settings().items() if value != now[name]}
    if changed:
        was = ", ".join(f"{name}={value}" for name, value in changed.items())
        raise UserError(
            f"Expected output={output} to hold results of this job. Received: results of {was}. "
            "Choose another output, or remove that folder."
        )
    return predict_output.read_plan(output)
