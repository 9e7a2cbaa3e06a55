"""What runs on the executors: decode a part of the images, write one shard. Plain functions of plain data."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import google_crc32c
import numpy as np
import pyarrow as pa
import xxhash

from distributed_cls import storage
from distributed_cls.contracts import index, tfrecord
from distributed_cls.dataset import duplicates, reading
from distributed_cls.dataset.shard_plan import DecodePart
from distributed_cls.images import pixels
from distributed_cls.images.decode import Prepared, Reject, Spec, prepare_image

PART = "part-"
PROGRESS = "progress-"
_PROGRESS_SECONDS = 0.5
# As small as OpenCV's default to within a few percent, at well under half of its time.
_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]


@dataclass(frozen=True)
class DecodeJob:
    """The settings of every decoding task: where to read and write, and how to prepare an image."""

    root: str
    work_folder: str
    spec: Spec
    encoding: str
    jpeg_quality: int
    bytes_column: str | None = None
    perceptual_hash: bool = True
    channels: str = "auto"  # data.channels


@dataclass(frozen=True)
class ShardResult:
    """A written shard: file name, records, bytes and crc32c of the file; offset and bytes of each image (int64 [n])."""

    file: str
    records: int
    bytes: int
    crc32c: int
    offsets: np.ndarray
    lengths: np.ndarray


def content_key(rgb: np.ndarray) -> bytes:
    """16 bytes that name the content of a prepared image.

    XXH3 (128 bits): a cryptographic hash took a twentieth of all the time of a preparation.
    """
    return xxhash.xxh3_128_digest(np.ascontiguousarray(rgb).data)


def encode(rgb: np.ndarray, encoding: str, jpeg_quality: int, grey: bool = False) -> bytes:
    """A prepared image as it is stored; with ``grey``, its first channel alone. PNG and raw keep every bit."""
    if encoding == "raw":
        return (rgb[..., 0] if grey else rgb).tobytes()
    options = _PNG_OPTIONS if encoding == "png" else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    stored = np.ascontiguousarray(rgb[..., 0]) if grey else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{encoding}", stored, options)
    assert done, f"OpenCV cannot write {encoding}"
    return data.tobytes()


class _Progress:
    """A small file, for the driver, with the number of images of a part that are done. Local work folders only."""

    def __init__(self, folder: str, name: str) -> None:
        self._path = None if storage.is_url(folder) else storage.local(folder) / f"{PROGRESS}{name}"
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def note(self, done: int) -> None:
        if self._path and time.monotonic() >= self._next:
            self._path.write_text(f"{done:d}")
            self._next = time.monotonic() + _PROGRESS_SECONDS

    def end(self) -> None:
        if self._path:
            self._path.unlink(missing_ok=True)


def part_index(work_folder: str, name: str) -> str:
    """Where the index of a decoded part lies."""
    return storage.join(work_folder, f"{PART}{name}.parquet")


def decode_part(job: DecodeJob, name: str, rows: pa.Table) -> int:
    """Prepare the images of ``rows`` into ``part-<name>.bin`` and its index, and give their number.

    The index is written last: a part without one does not count. Memory holds a few images at a time.
    """
    cv2.setNumThreads(0)  # the task has one core
    target = storage.join(job.work_folder, f"{PART}{name}")
    facts: list[dict[str, object]] = []
    offset = 0
    progress = _Progress(job.work_folder, name)
    with storage.writing(f"{target}.bin") as stream:
        for data in reading.contents(job.root, rows, job.bytes_column, job.spec.max_bytes):
            outcome = data if isinstance(data, Reject) else prepare_image(data, job.spec)
            fact, payload = _fact(job, outcome)
            if payload:
                stream.write(payload)
                fact |= {"file": f"{target}.bin", "offset": offset, "length": len(payload)}
                offset += len(payload)
            facts.append(fact)
            progress.note(len(facts))
    table = rows
    for field in index.SCHEMA:
        if field.name in rows.schema.names:
            continue
        table = table.append_column(field, pa.array([fact.get(field.name) for fact in facts], field.type))
    index.write(part_index(job.work_folder, name), table)
    progress.end()
    return len(facts)


def _fact(job: DecodeJob, outcome: Prepared | Reject) -> tuple[dict[str, object], bytes]:
    if isinstance(outcome, Reject):
        return {"reason": outcome.reason, "detail": outcome.detail}, b""
    rgb = outcome.rgb if job.channels != "1" else cv2.cvtColor(pixels.luma(outcome.rgb), cv2.COLOR_GRAY2RGB)
    grey = job.channels == "1" or pixels.is_grey(rgb)
    fact: dict[str, object] = {
        "key": content_key(rgb),
        "hash": duplicates.perceptual_hash(rgb) if job.perceptual_hash else None,
        "grey": grey,
        "width": outcome.width,
        "height": outcome.height,
        "format": outcome.format,
    }
    return fact, encode(rgb, job.encoding, job.jpeg_quality, grey and job.channels != "3")


def decode_parts(job: DecodeJob, parts: Iterable[DecodePart]) -> Iterator[int]:
    """``decode_part`` for the parts of a Spark partition."""
    for part in parts:
        yield decode_part(job, part.name, index.from_bytes(part.rows))


def write_hashes(path: str, hashes: np.ndarray, labels: np.ndarray) -> None:
    """Write what ``find_pairs`` reads: hashes, uint8 [n, 32], and their labels, int [n]."""
    storage.write_bytes(path, hashes.tobytes() + labels.astype(np.int32).tobytes())


def find_pairs(hashes_file: str, distance: int, bands: Iterable[range]) -> Iterator[np.ndarray]:
    """Near duplicates by each band of bits, among the hashes of ``write_hashes``."""
    flat = storage.read_bytes(hashes_file)
    count = len(flat) // (index.HASH_BYTES + 4)
    hashes = np.frombuffer(flat, np.uint8, count * index.HASH_BYTES).reshape(count, index.HASH_BYTES)
    labels = np.frombuffer(flat, np.int32, count, hashes.nbytes)
    for band in bands:
        yield duplicates.band_pairs(hashes, band, distance, labels)


def with_raw_bytes(image: bytes, wanted: int | None) -> bytes:
    """A raw image of one or three channels as ``wanted`` bytes: repeated, or the first of three equal ones.

    PNG and JPEG files need neither (None): whoever reads them asks for the number of channels.
    """
    if wanted is None or len(image) == wanted:
        return image
    return image[::3] if len(image) > wanted else np.repeat(np.frombuffer(image, np.uint8), 3).tobytes()


def write_shard(folder: str, file: str, rows: pa.Table, raw_bytes: int | None = None) -> ShardResult:
    """Write one TFRecord shard of already prepared images.

    rows: file, offset, length of each image's bytes; label (int64) and key. raw_bytes: of each image, when the
    encoding is raw: in a data set with colours a grey image has as many as the others.
    """
    crc = position = 0
    offsets, lengths = np.empty(rows.num_rows, np.int64), np.empty(rows.num_rows, np.int64)
    labels, keys = rows["label"].to_pylist(), rows["key"].to_pylist()
    with storage.writing(storage.join(folder, file)) as stream:
        for number, stored in enumerate(reading.ranges(rows)):
            image = with_raw_bytes(stored, raw_bytes)
            record = tfrecord.frame(tfrecord.example(image, labels[number], keys[number]))
            stream.write(record)
            crc = google_crc32c.extend(crc, record)
            position += len(record)
            offsets[number], lengths[number] = tfrecord.image_offset(position, len(image)), len(image)
    return ShardResult(file, rows.num_rows, position, crc, offsets, lengths)


def write_shards(folder: str, raw_bytes: int | None, shards: Iterable[tuple[str, bytes]]) -> Iterator[ShardResult]:
    """``write_shard`` for a Spark partition of (file name, rows as a message)."""
    for file, message in shards:
        yield write_shard(folder, file, index.from_bytes(message), raw_bytes)
