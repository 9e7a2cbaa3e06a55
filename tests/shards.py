"""Prepared data sets for tests, written record by record instead of by the preparation, and learnable."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import google_crc32c
import numpy as np

from distributed_cls.contracts import manifest, tfrecord
from distributed_cls.contracts.manifest import Manifest, Shard

Record = tuple[np.ndarray, int, bytes]  # uint8 [S, S, 3], label, key


def records(count: int, *, classes: int = 3, size: int = 8, seed: int = 0) -> list[Record]:
    """Noise with one bright stripe, whose place is the class. The key is the record's number, four bytes."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    images = random.integers(0, 120, (count, size, size, 3), dtype=np.uint8)
    width = size // classes
    for image, label in zip(images, labels, strict=True):
        image[:, label * width : (label + 1) * width] += 120
    keys = [number.to_bytes(4, "big") for number in range(count)]
    return list(zip(images, labels.tolist(), keys, strict=True))


def encode(image: np.ndarray, encoding: str) -> bytes:
    """An RGB or grey image [S, S, 3 or 1] as a record stores it."""
    if encoding == "raw":
        return image.tobytes()
    done, data = cv2.imencode(f".{encoding}", image[:, :, ::-1])
    assert done
    return data.tobytes()


def write_shard(folder: Path, file: str, part: Sequence[Record], encoding: str = "png") -> Shard:
    """Write one TFRecord file; its entry of the manifest."""
    data = b"".join(tfrecord.frame(tfrecord.example(encode(image, encoding), label, key)) for image, label, key in part)
    (folder / file).write_bytes(data)
    return Shard(file, len(part), len(data), google_crc32c.value(data))


def write_dataset(folder: Path, splits: dict[str, list[list[Record]]], *, encoding: str = "png") -> Manifest:
    """Write ``splits`` (split → records of each shard) and the manifest to ``folder``."""
    folder.mkdir(parents=True)
    shards = {
        split: [
            write_shard(folder, f"{split}-{number:05d}-of-{len(parts):05d}.tfrecord", part, encoding)
            for number, part in enumerate(parts)
        ]
        for split, parts in splits.items()
    }
    every = [record for parts in splits.values() for part in parts for record in part]
    names = [f"class_{label}" for label in range(1 + max(label for _, label, _ in every))]
    counts = {
        split: {name: sum(names[label] == name for part in parts for _, label, _ in part) for name in names}
        for split, parts in splits.items()
    }
    content = Manifest(
        name="stripes",
        fingerprint=f"{google_crc32c.value(str(shards).encode()):08x}",
        classes=names,
        image_size=every[0][0].shape[0],
        encoding=encoding,
        resize="stretch",
        seed=0,
        split_salt="",
        fractions={"train": 0.6, "val": 0.2, "test": 0.2},
        counts=counts,
        shards=shards,
    )
    (folder / manifest.FILE).write_text(manifest.dumps(content), encoding="utf-8")
    return content
