"""The manifest of a prepared dataset: what is in the folder, and how to know that it is still whole.

It is written last, so a folder without one is not a dataset. Imports nothing heavy: every rank reads it.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

from distributed_cls import storage
from distributed_cls.errors import UserError

SCHEMA_VERSION = 1
FILE = "manifest.json"
SPLITS = ("train", "val", "test")
NAMED_REJECTS = 20  # rejects that the manifest itself names; rejects.parquet holds all


@dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, records, size in bytes and crc32c of all its bytes."""

    file: str
    records: int
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds."""

    name: str
    fingerprint: str
    classes: list[str]  # sorted; a label is an index into it
    image_size: int  # edge of the square images, pixels
    encoding: str  # png, jpeg, or raw (uint8, height x width x 3)
    resize: str  # stretch, crop or pad
    seed: int
    split_salt: str
    fractions: dict[str, float]  # split -> fraction that was asked for
    counts: dict[str, dict[str, int]]  # split -> class -> images
    shards: dict[str, list[Shard]]  # split -> its files
    rejected: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    rejects: list[dict[str, str]] = field(default_factory=list)  # the first few: path, reason, detail
    duplicates: int = 0  # images left out because their content is there already
    source: str = ""  # where the images came from
    source_digest: str = ""  # of the listing and of every setting that decides the content
    lineage: str = ""  # of the source and those settings, without the listing: what later images join
    generation: int = 1  # 1 for a fresh preparation, one more than the dataset that it extends
    base: str | None = None  # fingerprint of that dataset
    schema_version: int = SCHEMA_VERSION

    def records(self, split: str) -> int:
        """Images in a split."""
        return sum(shard.records for shard in self.shards[split])


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset: its absolute folder or URL, its manifest, and whether it was there already."""

    path: str
    manifest: Manifest
    reused: bool


def dumps(manifest: Manifest) -> str:
    """The manifest as JSON text."""
    return json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False) + "\n"


def loads(text: str, where: str) -> Manifest:
    """A manifest from JSON text; ``where`` names the file in errors. Raises UserError."""
    again = "Delete the folder and prepare the data again."
    try:
        content: dict[str, Any] = json.loads(text)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"Expected a dataset manifest. Received: {where} is damaged ({error!r}). {again}") from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"Expected a dataset manifest of schema version {SCHEMA_VERSION}. "
            f"Received: {where} has schema_version={version}. {again}"
        )
    try:
        content["shards"] = {split: [Shard(**shard) for shard in content["shards"][split]] for split in SPLITS}
        return Manifest(**content)
    except (KeyError, TypeError) as error:
        raise UserError(f"Expected a dataset manifest. Received: {where} is damaged ({error!r}). {again}") from None


def load(path: str) -> Manifest:
    """Read the manifest of the dataset folder ``path`` and check that every shard is there at its size.

    Raises UserError: no manifest, a damaged one, another schema version, a shard missing or of another size.
    """
    where = storage.join(path, FILE)
    try:
        text = storage.read_bytes(where).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"Expected a prepared dataset. Received: {path} has no {FILE}. Run job=prepare, or check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"Expected a dataset manifest. Received: {where} is damaged ({error}). "
            "Delete the folder and prepare the data again."
        ) from None
    manifest = loads(text, where)
    for split in SPLITS:
        for shard in manifest.shards[split]:
            _check_size(path, shard)
    return manifest


def _damaged(path: str, shard: Shard, found: str) -> UserError:
    return UserError(
        f"Expected shard {shard.file} with {shard.bytes} bytes and crc32c {shard.crc32c:08x}. "
        f"Received: {storage.join(path, shard.file)} {found}. Delete {path} and prepare the data again."
    )


def _check_size(path: str, shard: Shard) -> None:
    try:
        size = storage.size(storage.join(path, shard.file))
    except FileNotFoundError:
        raise _damaged(path, shard, "is missing") from None
    if size != shard.bytes:
        raise _damaged(path, shard, f"has {size} bytes")


def check_shard(path: str, shard: Shard) -> None:
    """Read one shard of the dataset folder ``path``, compare size and checksum. Raises UserError with its name."""
    _check_size(path, shard)
    crc = 0
    for block in storage.blocks(storage.join(path, shard.file)):
        crc = google_crc32c.extend(crc, block)
    if crc != shard.crc32c:
        raise _damaged(path, shard, f"has crc32c {crc:08x}")


def verify(path: str) -> Manifest:
    """Re-read every shard of a dataset and compare its checksum. Raises UserError with the damaged shard's name."""
    manifest = load(path)
    for split in SPLITS:
        for shard in manifest.shards[split]:
            check_shard(path, shard)
    return manifest
