"""Which images a predict job classifies, cut into parts: written down once, so that a restarted job goes on."""

import dataclasses
import io
import json
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls.config import PredictConfig
from distributed_cls.errors import UserError
from distributed_cls.inference.bulk import Item, file_item, truth_from_path
from distributed_cls.inference.storage import Folder, plain

_BYTES_COLUMNS = ("content", "image_bytes", "image", "bytes", "data")
_PATH_COLUMNS = ("path", "image_path", "file_name", "key", "id")
_TRUTH_COLUMNS = ("truth", "label", "class")
_COST_OF_AN_IMAGE = 20_000  # bytes that an image of no size would be worth: opening, resizing, the model

PLAN = "_plan.parquet"
JOB = "_job.json"


@dataclasses.dataclass(frozen=True)
class Piece:
    """An image file; or, with ``row_group``, so many images in a row group of a Parquet file."""

    path: str
    row_group: int | None
    images: int
    size: int  # bytes


def find_pieces(source: str) -> list[Piece]:
    """Everything under ``source``, in the order of the paths. Raises UserError when there is nothing.

    A folder of Parquet files, or one such file, is a table of image bytes; any other folder holds image files.
    """
    source = plain(source)
    system, root = fsspec.core.url_to_fs(source)
    if not system.exists(root):
        raise UserError(f"Expected images at data.path. Received: data.path={source}: no such file or folder.")
    found = system.find(root, detail=True)
    inner = len(root.rstrip("/"))
    files = {
        system.unstrip_protocol(path) if "://" in source else path: entry["size"]
        for path, entry in sorted(found.items())
        if not any(part.startswith((".", "_")) for part in path[inner:].split("/"))
    }
    tables = [path for path in files if path.endswith((".parquet", ".pq"))]
    if tables:
        return [piece for path in tables for piece in _row_groups(path)]
    if not files:
        raise UserError(f"Expected images at data.path. Received: data.path={source}: an empty folder.")
    return [Piece(path, None, 1, size) for path, size in files.items()]


def _row_groups(path: str) -> Iterator[Piece]:
    with fsspec.open(path, "rb") as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise UserError(f"Expected {path} to be a Parquet file. Received: {error}.") from error
        bytes_column(path, file.schema_arrow)
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            yield Piece(path, index, group.num_rows, group.total_byte_size)


def bytes_column(path: str, schema: pa.Schema) -> str:
    """The column of a table that holds encoded images. Raises UserError that names what there is instead."""
    for name in _BYTES_COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UserError(
        f"Expected {path} to have a binary column named {', '.join(_BYTES_COLUMNS[:-1])} or {_BYTES_COLUMNS[-1]}. "
        f"Received: {columns}. Rename the column that holds the encoded images."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):  # {bytes, path}, as the Hugging Face datasets are written
        return kind.get_field_index("bytes") >= 0
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def cut(pieces: list[Piece], settings: PredictConfig, slots: int) -> list[list[Piece]]:
    """The pieces in parts of about equal work, in order; a whole number of parts per slot when there are enough."""
    images = sum(piece.images for piece in pieces)
    size = sum(piece.size for piece in pieces)
    wanted = max(-(-images // settings.part_images), -(-size // (settings.part_megabytes * 2**20)), 1)
    parts = min(-(-wanted // slots) * slots, len(pieces))
    total = sum(_work(piece) for piece in pieces)
    cuts: list[list[Piece]] = [[] for _ in range(parts)]
    done = 0
    for piece in pieces:
        # A piece goes where its middle lies, so that the last part is no smaller than the others.
        cuts[min((done + _work(piece) // 2) * parts // total, parts - 1)].append(piece)
        done += _work(piece)
    return [part for part in cuts if part]


def _work(piece: Piece) -> int:
    return piece.size + _COST_OF_AN_IMAGE * piece.images


def items(part: list[Piece], classes: list[str]) -> Iterator[Item]:
    """The images of a part."""
    for piece in part:
        if piece.row_group is None:
            yield file_item(piece.path, truth_from_path(piece.path, classes))
        else:
            yield from _table_items(piece, classes)


def _table_items(piece: Piece, classes: list[str]) -> Iterator[Item]:
    with fsspec.open(piece.path, "rb") as stream:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        data = bytes_column(piece.path, schema)
        path = next((name for name in _PATH_COLUMNS if name in schema.names), None)
        truth = next((name for name in _TRUTH_COLUMNS if name in schema.names), None)
        columns = [name for name in (data, path, truth) if name]
        number = 0
        for batch in file.iter_batches(32, row_groups=[piece.row_group], columns=columns):
            for row in batch.to_pylist():
                name = str(row[path]) if path else f"{piece.path}#{piece.row_group}:{number}"
                yield Item(name, lambda value=row[data]: _bytes_of(value), _truth(row.get(truth), classes))  # type: ignore[misc]
                number += 1


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes")
    return b"" if value is None else bytes(value)


def _truth(value: Any, classes: list[str]) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return classes[value] if 0 <= value < len(classes) else None
    return None if value is None else str(value)


def save(output: Folder, parts: list[list[Piece]], identity: dict[str, Any]) -> None:
    """Write the plan down; the job file last, so that there is none without its plan."""
    rows = [{"part": number, **dataclasses.asdict(piece)} for number, part in enumerate(parts) for piece in part]
    sink = io.BytesIO()
    whole = pa.int64()
    schema = pa.schema(
        {"part": pa.int32(), "path": pa.string(), "row_group": pa.int32(), "images": whole, "size": whole}
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    output.write(PLAN, sink.getvalue())
    output.write(JOB, json.dumps(identity, indent=2).encode())


def load(output: Folder, identity: dict[str, Any]) -> list[list[Piece]] | None:
    """The plan that an earlier start of the same job wrote, or None. Raises UserError when it was another job."""
    if not output.exists(JOB):
        if any(name.endswith(".parquet") and not name.startswith((".", "_")) for name in output.names()):
            raise UserError(
                f"Expected output to be new, or to hold results of this job. Received: output={output.url}, "
                "which holds other Parquet files. Choose another output."
            )
        return None
    before = json.loads(output.read(JOB))
    changed = [key for key, value in identity.items() if before.get(key) != value]
    if changed:
        was = ", ".join(f"{key}={before.get(key)}" for key in changed)
        raise UserError(
            f"Expected output={output.url} to hold results of this job. Received: results of {was}. "
            "Choose another output, or remove that folder."
        )
    table = pq.read_table(io.BytesIO(output.read(PLAN))).to_pylist()
    parts: dict[int, list[Piece]] = {}
    for row in table:
        parts.setdefault(row.pop("part"), []).append(Piece(**row))
    return [parts[number] for number in sorted(parts)]
