"""The train split in folds: for each one a data set that trains on the others and tests on it.

    <folder>/data/fold-0-of-4-train-00000-of-00008.tfrecord …, val-00000-of-00001.tfrecord
    <folder>/0/manifest.json …

A record is copied once, into the file of its fold. The folds follow from the content of the images alone, so that the
same picture under two labels cannot be learned in one fold and examined in another.
"""

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import google_crc32c
import numpy as np
import pyarrow as pa

from distributed_cls import storage
from distributed_cls.contracts import manifest, tfrecord
from distributed_cls.contracts.manifest import Dataset, Manifest, Shard
from distributed_cls.errors import UserError
from distributed_cls.spark import stage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DATA = "data"


def fold_of(key: bytes, folds: int) -> int:
    """The fold of an image, from the hash of its content."""
    return int.from_bytes(key, "big") % folds


@dataclass(frozen=True)
class FoldedShard:
    """What became of a shard: the file and the images of each class (by index) in each fold."""

    files: list[Shard]
    counts: list[dict[int, int]]


def fold_shard(source: str, target: str, folds: int, file: str) -> FoldedShard:
    """Copy each record of the shard ``file`` in the folder ``source`` into a file of its fold in ``target``."""
    names = [f"fold-{fold}-of-{folds}-{file}" for fold in range(folds)]
    checksums = [google_crc32c.Checksum() for _ in names]
    sizes, counts = [0] * folds, [Counter[int]() for _ in names]
    with contextlib.ExitStack() as stack:
        shard = stack.enter_context(storage.open_read(storage.join(source, file)))
        streams = [stack.enter_context(storage.writing(storage.join(target, name))) for name in names]
        for data in tfrecord.read_frames(shard):
            record = tfrecord.parse_example(data)
            fold = fold_of(cast(bytes, record["key"]), folds)
            framed = tfrecord.frame(data)
            streams[fold].write(framed)
            checksums[fold].update(framed)
            sizes[fold] += len(framed)
            counts[fold][cast(int, record["label"])] += 1
    files = [
        Shard(name, count.total(), size, int.from_bytes(checksum.digest(), "big"))
        for name, count, size, checksum in zip(names, counts, sizes, checksums, strict=True)
    ]
    return FoldedShard(files, [dict(count) for count in counts])


def _fold_shards(source: str, target: str, folds: int, files: Iterable[str]) -> Iterator[FoldedShard]:
    for file in files:
        yield fold_shard(source, target, folds, file)


def write_folds(spark: "SparkSession", dataset: Dataset, folder: Path, folds: int) -> list[Dataset]:
    """Write the folds of ``dataset`` to ``folder``: one Spark task per shard. Raises UserError: a fold is empty."""
    data = folder / _DATA
    data.mkdir(parents=True, exist_ok=True)
    split = functools.partial(_fold_shards, dataset.path, str(data), folds)
    shards = dataset.manifest.shards
    folded = stage.run(spark, f"folds of {dataset.manifest.name}", split, [shard.file for shard in shards["train"]])
    for shard in shards["val"]:
        storage.write_bytes(data / shard.file, storage.read_bytes(storage.join(dataset.path, shard.file)))
    found = []
    for fold in range(folds):
        content = _manifest(dataset.manifest, folded, fold, folds)
        if not content.records("test"):
            raise UserError(
                f"Expected an image in each of suspects.folds={folds} folds. Received: none in fold {fold}, of "
                f"{dataset.manifest.records('train')} train images. Set a smaller suspects.folds."
            )
        path = folder / str(fold)
        path.mkdir(exist_ok=True)
        manifest.write(str(path), content)
        found.append(Dataset(str(path), content, reused=False))
    return found


def _manifest(whole: Manifest, folded: list[FoldedShard], fold: int, folds: int) -> Manifest:
    """The data set that trains on every other fold; its val split is that of the whole."""

    def place(shard: Shard) -> Shard:
        return dataclasses.replace(shard, file=f"../{_DATA}/{shard.file}")

    def counted(chosen: Iterable[int]) -> dict[str, int]:
        total = sum((Counter(part.counts[number]) for number in chosen for part in folded), Counter[int]())
        return {name: total[index] for index, name in enumerate(whole.classes)}

    others = [number for number in range(folds) if number != fold]
    files = {
        "train": [part.files[number] for number in others for part in folded],
        "val": whole.shards["val"],
        "test": [part.files[fold] for part in folded],
    }
    return dataclasses.replace(
        whole,
        fingerprint=f"{whole.fingerprint}.{fold}of{folds}",
        shards={split: [place(shard) for shard in shards if shard.records] for split, shards in files.items()},
        counts={"train": counted(others), "val": whole.counts["val"], "test": counted([fold])},
    )


def rows_of_folds(keys: pa.ChunkedArray, folds: int) -> list[np.ndarray]:
    """Of each fold the rows, int64 [images], whose images are in it, in the order of its data set's test split.

    ``keys``: of all train images, shard after shard, each in the order that it holds them.
    """
    found = np.array([fold_of(key, folds) for key in keys.to_pylist()])
    return [np.flatnonzero(found == fold) for fold in range(folds)]
