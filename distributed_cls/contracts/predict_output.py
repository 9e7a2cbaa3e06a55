"""What job=predict and job=stream leave in their output: a row per image, the plan of the parts, what the job was.

part-00000.parquet …, batch-000000000.parquet …   ``Prediction``, one row per image
_plan.parquet                                     job=predict: ``InputSlice``, with the number of its part
_job.json, _stream.json                           ``PredictJob``, ``StreamJob``
"""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.errors import UserError
from distributed_cls.text import first_line

# Of all of them. 1 was not written down, and named its fields after settings; 2 had no ``accepted``.
SCHEMA_VERSION = 3
PLAN = "_plan.parquet"
PREDICT_JOB = "_job.json"
STREAM_JOB = "_stream.json"
_VERSION_KEY = b"distributed_cls.predict_output.schema_version"
_REMEDY = "Choose another output, or remove that folder."
_ROWS_AT_ONCE = 4096

_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("top", pa.list_(pa.struct([("label", pa.string()), ("confidence", pa.float32())]))),
        ("error", pa.string()),
        ("truth", pa.string()),
        ("accepted", pa.bool_()),
    ]
)
_SLICES = pa.schema(
    [
        ("part", pa.int64()),
        ("path", pa.string()),
        ("row_group", pa.int32()),
        ("images", pa.int64()),
        ("size", pa.int64()),
        ("truth", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image, or with ``error`` why there is none. ``truth``: its class, where that is known."""

    path: str
    label: str | None = None
    confidence: float | None = None  # probability of ``label``
    top: tuple[tuple[str, float], ...] | None = None  # the most probable classes with their probabilities
    error: str | None = None
    truth: str | None = None
    accepted: bool | None = None  # false: none of these; ``label`` is then only the most probable class


@dataclass(frozen=True, slots=True)  # there may be millions
class InputSlice:
    """An image file; or, with ``row_group``, so many images in a row group of a Parquet file."""

    path: str
    row_group: int | None
    images: int
    size: int  # bytes; 0 where only reading it would tell
    truth: str | None = None  # its class, where a list says so


@dataclass(frozen=True)
class PredictJob:
    """What a predict job classifies with what: another one must not go on in its output."""

    model_version: str
    source: str
    top_k: int

    def settings(self) -> dict[str, str | int]:
        """The fields by the names that users know."""
        return {"model_version": self.model_version, "data.path": self.source, "predict.top_k": self.top_k}


@dataclass(frozen=True)
class StreamJob:
    """Which folder a stream job watches."""

    source: str


def to_parquet(rows: Iterable[Prediction]) -> bytes:
    """Rows as the bytes of a result file."""
    plain = [{item.name: getattr(row, item.name) for item in dataclasses.fields(Prediction)} for row in rows]
    for row in plain:
        if row["top"] is not None:
            row["top"] = [{"label": label, "confidence": share} for label, share in row["top"]]
    return _bytes_of(pa.Table.from_pylist(plain, schema=_ROWS))


def read_rows(path: str) -> Iterator[Prediction]:
    """The rows of a result file without their ``top``, a few thousand at a time. Raises UserError."""
    with storage.open_read(path) as stream:
        file = _opened(stream, path)
        columns = [name for name in _ROWS.names if name in file.schema_arrow.names and name != "top"]
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
            yield from (Prediction(**row) for row in batch.to_pylist())


def write_plan(output: str, parts: list[list[InputSlice]]) -> None:
    """Write down which images are in which part."""
    columns: list[Any] = [np.repeat(np.arange(len(parts)), [len(part) for part in parts])]
    columns += [[getattr(piece, name) for part in parts for piece in part] for name in _SLICES.names[1:]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SLICES, strict=True)]
    storage.write_bytes(storage.join(output, PLAN), _bytes_of(pa.table(arrays, schema=_SLICES)))


def read_plan(output: str) -> list[list[InputSlice]]:
    """The parts that ``write_plan`` wrote. Raises UserError when they are missing, damaged or of a later release."""
    path = storage.join(output, PLAN)
    try:
        table = _opened(io.BytesIO(storage.read_bytes(path)), path).read()
    except FileNotFoundError:
        raise UserError(f"Expected the plan of a predict job at {path}. Received: no such file. {_REMEDY}") from None
    known = [name for name in _SLICES.names[1:] if name in table.column_names]
    parts: dict[int, list[InputSlice]] = {}
    for number, *values in zip(*(table[name].to_pylist() for name in ("part", *known)), strict=True):
        parts.setdefault(number, []).append(InputSlice(**dict(zip(known, values, strict=True))))
    return [parts[number] for number in sorted(parts)]


def write_predict_job(output: str, job: PredictJob) -> None:
    """Write down what the job is."""
    _write_job(storage.join(output, PREDICT_JOB), job)


def read_predict_job(output: str) -> PredictJob | None:
    """The job whose results are in ``output``; None when there is none. Raises UserError."""
    renamed = {"data.path": "source", "predict.top_k": "top_k"}
    return _read_job(PredictJob, storage.join(output, PREDICT_JOB), renamed)


def write_stream_job(output: str, job: StreamJob) -> None:
    """Write down what the job is."""
    _write_job(storage.join(output, STREAM_JOB), job)


def read_stream_job(output: str) -> StreamJob | None:
    """The job whose results are in ``output``; None when there is none. Raises UserError."""
    return _read_job(StreamJob, storage.join(output, STREAM_JOB), {"data.path": "source"})


Job = TypeVar("Job", PredictJob, StreamJob)


def _write_job(path: str, job: PredictJob | StreamJob) -> None:
    storage.write_json(path, {"schema_version": SCHEMA_VERSION, **codec.to_plain(job)})


def _read_job(kind: type[Job], path: str, renamed: dict[str, str]) -> Job | None:
    """``renamed``: what the fields were called in version 1."""
    if not storage.exists(path):
        return None
    content = storage.read_json(path, "what the results are of", _REMEDY)
    try:
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        version = content.pop("schema_version", 1)
        _check_version(version, path)
        if version == 1:
            content = {renamed.get(name, name): value for name, value in content.items()}
        return codec.from_plain(kind, content, path)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"Expected what the results are of at {path}. Received: {error}. {_REMEDY}") from None


def _bytes_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)}), sink)
    return sink.getvalue()


def _opened(stream: Any, path: str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"Expected a Parquet file at {path}. Received: {first_line(error)}. {_REMEDY}") from None
    _check_version(int((file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"1")), path)
    return file


def _check_version(version: int, path: str) -> None:
    if version > SCHEMA_VERSION:
        raise UserError(
            f"Expected results of schema version {SCHEMA_VERSION} or earlier. Received: {path} has version {version}. "
            "Use the release that wrote them, or choose another output."
        )
