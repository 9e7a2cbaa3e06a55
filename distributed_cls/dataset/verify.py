"""Re-reading a prepared dataset: files, records, checksums, counts against the manifest, and all against the index."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from distributed_cls import storage
from distributed_cls.contracts import index, manifest, tfrecord
from distributed_cls.contracts.manifest import Manifest, Shard
from distributed_cls.dataset import curate, publish, work
from distributed_cls.errors import UserError


@dataclass(frozen=True)
class Verified:
    """What was read: shards, records and bytes, all of them right."""

    path: str
    shards: int
    records: int
    bytes: int


def verify(path: str, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read the dataset folder or URL ``path`` again, all of it, on this machine.

    progress(done, total): shards. Raises UserError with the name of what is damaged.
    """
    content = manifest.load(path)
    shards = [(split, shard) for split in manifest.SPLITS for shard in content.shards[split]]
    counts: dict[str, Counter[str]] = {split: Counter() for split in manifest.SPLITS}
    keys: dict[bytes, str] = {}
    for done, (split, shard) in enumerate(shards, start=1):
        manifest.check_shard(path, shard)
        for key, label in _records(path, content, shard):
            if key in keys:
                raise _wrong(path, f"every image once, found {key.hex()} in {keys[key]} and in {shard.file}")
            keys[key] = shard.file
            counts[split][label] += 1
        if progress:
            progress(done, len(shards))
    for split in manifest.SPLITS:
        expected = {name: count for name, count in content.counts[split].items() if count}
        if expected != dict(counts[split]):
            raise _wrong(path, f"the counts of split {split} to be {expected}, found {dict(counts[split])}")
    _check_index(path, content, keys)
    return Verified(path, len(shards), len(keys), sum(shard.bytes for _, shard in shards))


def _wrong(path: str, what: str) -> UserError:
    return UserError(f"Expected {what}. Received: {path}. Delete the folder and prepare the data again.")


def _records(path: str, content: Manifest, shard: Shard) -> list[tuple[bytes, str]]:
    """(key, class) of every record of a shard, each record checked."""
    found = []
    with storage.open_read(storage.join(path, shard.file)) as stream:
        try:
            for record in tfrecord.read_frames(stream):
                example = tfrecord.parse_example(record)
                label, key, image = example["label"], example["key"], example["image"]
                assert isinstance(label, int) and isinstance(key, bytes) and isinstance(image, bytes)
                _check_image(content, image, key)
                found.append((key, content.classes[label]))
        except (tfrecord.DamagedRecord, KeyError, IndexError) as error:
            raise _wrong(path, f"record {len(found)} of {shard.file} to be readable, found {error}") from None
    if len(found) != shard.records:
        raise _wrong(path, f"{shard.records} records in {shard.file}, found {len(found)}")
    return found


def _check_image(content: Manifest, image: bytes, key: bytes) -> None:
    """The stored bytes decode to the right size, and (where storing keeps every bit) to the content of the key."""
    size = (content.image_size, content.image_size)
    if content.encoding == "raw":
        if len(image) != size[0] * size[1] * content.channels:
            raise tfrecord.DamagedRecord(f"an image of {len(image)} bytes")
        stored: np.ndarray = np.frombuffer(image, np.uint8).reshape(*size, content.channels)
        pixels = stored if content.channels == 3 else cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB)
    else:
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
        # In a data set with colours a grey image is stored with one channel all the same.
        if decoded is None or decoded.shape not in (size, (*size, content.channels)):
            raise tfrecord.DamagedRecord("an image that cannot be decoded to its size")
        pixels = cv2.cvtColor(decoded.astype(np.uint8), cv2.COLOR_GRAY2RGB if decoded.ndim == 2 else cv2.COLOR_BGR2RGB)
    if content.encoding != "jpeg" and work.content_key(pixels) != key:
        raise tfrecord.DamagedRecord("an image whose content is not that of its key")


def _check_index(path: str, content: Manifest, keys: dict[bytes, str]) -> None:
    """The index names the same images in the same shards; it, the table of rejects and the manifest count alike."""
    table = index.of_dataset(path)
    kept = index.kept(table)
    named = dict(zip(kept["key"].to_pylist(), kept["file"].to_pylist(), strict=True))
    if named != keys:
        raise _wrong(path, f"{index.FILE} and the shards to hold the same images, found {len(named)} and {len(keys)}")
    listed = index.of_dataset(path, index.REJECTS_FILE).num_rows
    if listed != content.rejected:
        raise _wrong(path, f"{content.rejected} rejects in {index.REJECTS_FILE}, found {listed}")
    decided = curate.Curated(table, content.classes)
    found = (decided.rejected().num_rows, decided.duplicates())
    if found != (content.rejected, content.duplicates):
        raise _wrong(
            path, f"{content.rejected} rejects and {content.duplicates} duplicates in {index.FILE}, found {found}"
        )


def find(dataset_root: str, name: str) -> list[str]:
    """The prepared datasets called ``name`` under ``dataset_root``. Raises UserError when there is none."""
    root = storage.absolute(dataset_root)
    found = publish.folders(root, name)
    if not found:
        raise UserError(
            f"Expected a prepared dataset called {name} under dataset_root. Received: none in {root}. "
            "Set data=… or data.name=… to what was prepared, or run job=prepare."
        )
    return found
