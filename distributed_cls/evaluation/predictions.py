"""What the model predicted for each image: ``predictions.parquet``, made of the files that the ranks left behind.

Columns as in the results of job=predict, and the split: path, split, truth, label, confidence, top (label and
confidence of the five most probable classes). A rank knows its images by their place in the shards; the dataset's index
knows which file came to lie there.
"""

import dataclasses
import io
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.contracts import index, rank_predictions
from distributed_cls.contracts.events import Mistake
from distributed_cls.contracts.manifest import SPLITS, Dataset, Manifest
from distributed_cls.errors import RunError

FILE = "predictions.parquet"


def write(folder: Path, dataset: Dataset, stored: pa.Table, splits: Sequence[str], world_size: int) -> None:
    """Write ``predictions.parquet`` of the evaluated splits into the run folder, and remove the ranks' files.

    stored: what ``stored_images`` gives for the dataset. Exactly the files of ``world_size`` ranks count: others are
    left from an earlier evaluation in the same folder. Raises RunError when they do not cover each split once.
    """
    first_rows = _first_rows(dataset)
    manifest = dataset.manifest
    tables: list[pa.Table] = []
    for split in splits:
        firsts = [first_rows[shard.file] for shard in manifest.shards[split]]
        rows = 0
        for rank in range(world_size):
            part = rank_predictions.read(folder, split, rank, world_size, manifest.fingerprint)
            images = [stored.slice(firsts[shard] + start, stop - start) for shard, start, stop in part.ranges.tolist()]
            found = pa.concat_tables([stored.slice(0, 0), *images])
            tables.append(_table(found, split, manifest.classes, part.classes, part.probabilities))
            rows += found.num_rows
        if rows != manifest.records(split):
            raise RunError(f"Expected predictions for {manifest.records(split)} {split} images. Received: {rows}.")
    sink = io.BytesIO()
    table = pa.concat_tables(tables).sort_by([("split", "ascending"), ("path", "ascending")])
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(folder / FILE, sink.getvalue())
    shutil.rmtree(folder / rank_predictions.FOLDER)


def with_paths(stored: pa.Table, mistakes: Sequence[Mistake]) -> list[Mistake]:
    """The mistakes with the files that their images came from."""
    keys = pa.array([bytes.fromhex(mistake.key) for mistake in mistakes], stored["key"].type)
    found = stored["path"].take(pc.index_in(keys, stored["key"])).to_pylist()
    return [dataclasses.replace(mistake, path=path) for mistake, path in zip(mistakes, found, strict=True)]


def of_every_class(folder: Path, content: Manifest, split: str, world_size: int) -> np.ndarray:
    """The probabilities, float32 [images, classes], of a split whose ranks kept all of them, in stored order.

    Removes the ranks' files. Raises RunError when they do not cover the split.
    """
    found = np.zeros((content.records(split), len(content.classes)), np.float32)
    done = 0
    for rank in range(world_size):
        part = rank_predictions.read(folder, split, rank, world_size, content.fingerprint)
        rows = np.arange(done, done + len(part.classes))
        if part.classes.shape[1:] != found.shape[1:] or done + len(rows) > len(found):
            raise RunError(f"Expected {found.shape} probabilities. Received: {part.classes.shape} from rank {rank}.")
        found[rows[:, None], part.classes] = part.probabilities
        done += len(rows)
    if done != len(found):
        raise RunError(f"Expected predictions for {len(found)} {split} images. Received: {done}.")
    shutil.rmtree(folder / rank_predictions.FOLDER)
    return found


def of_split(stored: pa.Table, split: str) -> pa.Table:
    """The rows of ``stored_images`` that are in a split."""
    return stored.filter(pc.equal(stored["split"], split))


def stored_images(dataset: Dataset) -> pa.Table:
    """Path, true class, key, split and place (file, offset, length) of each kept image.

    They come shard after shard by name, each in the order that it holds them.
    """
    table = index.kept(index.of_dataset(dataset.path)).sort_by([("file", "ascending"), ("offset", "ascending")])
    root = dataset.manifest.source_root
    origins = pc.binary_join_element_wise(root, table["path"], "/")
    # A table of images has many in one file: the number of the row identifies it.
    numbered = pc.binary_join_element_wise(origins, pc.cast(table["row"], pa.string()), "#")
    origins = pc.if_else(pc.greater_equal(table["row"], 0), numbered, origins)
    places = {name: table[name] for name in ("file", "offset", "length")}
    splits = pa.array(SPLITS).take(table["split"])
    return pa.table({"path": origins, "truth": table["label"], "key": table["key"], "split": splits, **places})


def _first_rows(dataset: Dataset) -> dict[str, int]:
    """The row of ``stored_images`` at which each shard begins."""
    records = {shard.file: shard.records for shards in dataset.manifest.shards.values() for shard in shards}
    names = sorted(records)
    return dict(zip(names, itertools.accumulate((records[name] for name in names), initial=0), strict=False))


def _table(found: pa.Table, split: str, names: list[str], classes: np.ndarray, probabilities: np.ndarray) -> pa.Table:
    """The rows of one rank's images, which are ``found``."""
    assert found.num_rows == len(classes), f"{split}: {len(classes)} predictions for {found.num_rows} images"
    labels = pa.array(names, pa.string()).take(pa.array(classes.ravel()))
    each = pa.StructArray.from_arrays([labels, pa.array(probabilities.ravel())], ["label", "confidence"])
    borders = np.arange(0, classes.size + 1, classes.shape[1], dtype=np.int32)
    return pa.table(
        {
            "path": found["path"],
            "split": pa.repeat(pa.scalar(split), found.num_rows),
            "truth": found["truth"],
            "label": labels.take(pa.array(borders[:-1])),
            "confidence": pa.array(probabilities[:, 0]),
            "top": pa.ListArray.from_arrays(pa.array(borders), each),
        }
    )
