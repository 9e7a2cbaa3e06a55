"""The manifest of a prepared dataset: what is in the folder, and how to know that it is still whole.

It is written last, so a folder without one is not a dataset. Imports nothing heavy: every rank reads it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import google_crc32c

from distributed_cls import storage
from distributed_cls.contracts import codec, rejects
from distributed_cls.errors import UserError

# 1 had one field "source" with the text <source>:<root>; up to 2 every image had three channels.
SCHEMA_VERSION = 3
FILE = "manifest.json"
PAGE_FILE = "dataset.html"  # beside it, for people
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
    encoding: str  # png, jpeg, or raw (uint8, height x width x channels)
    resize: str  # stretch, crop or pad
    seed: int
    split_salt: str
    fractions: dict[str, float]  # split -> fraction that was asked for
    counts: dict[str, dict[str, int]]  # split -> class -> images
    shards: dict[str, list[Shard]]  # split -> its files
    channels: int = 3  # that an image is read with: 1 for grey (then none is stored with more), 3 for RGB
    rejected: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    rejects: list[dict[str, str]] = field(default_factory=list)  # the first few: path, reason, detail
    duplicates: int = 0  # images left out because their content is there already
    source: str = ""  # which source listed the images
    source_root: str = ""  # the folder or URL that their paths begin at
    source_digest: str = ""  # of the listing and of every setting that decides the content
    lineage: str = ""  # of the source and those settings, without the listing: what later images join
    generation: int = 1  # 1 for a fresh preparation, one more than the dataset that it extends
    base: str | None = None  # fingerprint of that dataset
    schema_version: int = SCHEMA_VERSION

    def records(self, split: str) -> int:
        """Images in a split."""
        return sum(shard.records for shard in self.shards[split])

    @property
    def not_remembered(self) -> int:
        """Images that were left out because they could not be read then: another run may be able to."""
        return sum(self.rejected_by_reason.get(reason, 0) for reason in rejects.NOT_REMEMBERED)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset: its absolute folder or URL, its manifest, and whether it was there already."""

    path: str
    manifest: Manifest
    reused: bool


def folder_name(name: str, fingerprint: str) -> str:
    """The name of a dataset's folder, below the root of all datasets."""
    return f"{name}-{fingerprint}"


def parse_folder_name(folder: str) -> tuple[str, str] | None:
    """(name, fingerprint) of a folder's name that ``folder_name`` may have given; None for any other."""
    found = re.fullmatch(r"(.+)-([0-9a-f]{8,})", folder)
    return (found[1], found[2]) if found else None


def write(folder: str, manifest: Manifest) -> None:
    """Write ``manifest.json``: with it, the folder becomes a dataset."""
    storage.write_text(storage.join(folder, FILE), dumps(manifest))


def dumps(manifest: Manifest) -> str:
    """The manifest as JSON text."""
    return codec.dumps(manifest, indent=1) + "\n"


def loads(text: str, where: str) -> Manifest:
    """A manifest from JSON text, also of an earlier schema version; ``where`` names the file in errors.

    Raises UserError.
    """
    again = "Delete the folder and prepare the data again."
    try:
        content = json.loads(text)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"Expected a dataset manifest. Received: {where} is damaged ({error!r}). {again}") from None
    if version not in range(1, SCHEMA_VERSION + 1):
        raise UserError(
            f"Expected a dataset manifest of schema version {SCHEMA_VERSION} or earlier. "
            f"Received: {where} has schema_version={version}. {again}"
        )
    try:
        if version == 1:
            content["source"], _, content["source_root"] = content["source"].partition(":")
        manifest = codec.from_plain(Manifest, {**content, "schema_version": SCHEMA_VERSION}, "manifest")
        absent = [split for split in SPLITS if split not in manifest.shards]
        if absent:
            raise ValueError(f"no shards of {', '.join(absent)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Expected a dataset manifest. Received: {where} is damaged ({error}). {again}") from None
    return manifest


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
            check_size(path, shard)
    return manifest


def _damaged(path: str, shard: Shard, found: str) -> UserError:
    return UserError(
        f"Expected shard {shard.file} with {shard.bytes} bytes and crc32c {shard.crc32c:08x}. "
        f"Received: {storage.join(path, shard.file)} {found}. Delete {path} and prepare the data again."
    )


def check_size(path: str, shard: Shard) -> None:
    """Compare the size of one shard of the dataset folder ``path``. Raises UserError with its name."""
    try:
        size = storage.size(storage.join(path, shard.file))
    except FileNotFoundError:
        raise _damaged(path, shard, "is missing") from None
    if size != shard.bytes:
        raise _damaged(path, shard, f"has {size} bytes")


def check_shard(path: str, shard: Shard) -> None:
    """Read one shard of the dataset folder ``path``, compare size and checksum. Raises UserError with its name."""
    for _ in checked_blocks(path, shard):
        pass


def checked_blocks(path: str, shard: Shard) -> Iterator[bytes]:
    """The bytes of one shard of the dataset folder ``path``. Raises UserError: another size, or, last, checksum."""
    check_size(path, shard)
    crc = 0
    for block in storage.blocks(storage.join(path, shard.file)):
        crc = google_crc32c.extend(crc, block)
        yield block
    if crc != shard.crc32c:
        raise _damaged(path, shard, f"has crc32c {crc:08x}")
