"""What the model said of each image: ``predictions.parquet``, made of the files that the ranks left in the run folder.

Columns as in the results of job=predict, and the split: path, split, truth, label, confidence, top (label and
confidence of the five likeliest classes). A rank knows its images by their place in the shards; the dataset's index
knows which file came to lie there.
"""

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
from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import Dataset

FILE = "predictions.parquet"
PARTS = "predictions"  # the folder of the ranks' files


def write(folder: Path, dataset: Dataset, stored: pa.Table) -> None:
    """Write ``predictions.parquet`` of the evaluated splits into the run folder, and remove the ranks' files.

    stored: what ``stored_images`` gives for the dataset.
    """
    first_rows = _first_rows(dataset)
    tables = []
    for part in sorted((folder / PARTS).glob("*.npz")):
        split = part.name.rsplit("-", 1)[0]
        with np.load(part) as arrays:
            firsts = [first_rows[shard.file] for shard in dataset.manifest.shards[split]]
            ranges = arrays["ranges"].tolist()
            images = [stored.slice(firsts[shard] + start, stop - start) for shard, start, stop in ranges]
            found = pa.concat_tables([stored.slice(0, 0), *images])
            tables.append(_table(found, split, dataset.manifest.classes, arrays["classes"], arrays["shares"]))
    sink = io.BytesIO()
    table = pa.concat_tables(tables).sort_by([("split", "ascending"), ("path", "ascending")])
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(folder / FILE, sink.getvalue())
    shutil.rmtree(folder / PARTS)


def paths(stored: pa.Table, keys: Sequence[str]) -> list[str]:
    """Where the images with these keys (hexadecimal, as in the records) came from."""
    rows = pc.index_in(pa.array([bytes.fromhex(key) for key in keys], stored["key"].type), stored["key"])
    return stored["path"].take(rows).to_pylist()


def stored_images(dataset: Dataset) -> pa.Table:
    """Path, true class and key of each kept image: shard after shard by name, each in the order that it holds them."""
    table = index.of_dataset(dataset.path)
    table = table.filter(pc.is_null(table["reason"])).sort_by([("file", "ascending"), ("offset", "ascending")])
    root = dataset.manifest.source.split(":", 1)[1]
    origins = pc.binary_join_element_wise(root, table["path"], "/")
    # A table of images has many in one file: its row tells them apart.
    numbered = pc.binary_join_element_wise(origins, pc.cast(table["row"], pa.string()), "#")
    origins = pc.if_else(pc.greater_equal(table["row"], 0), numbered, origins)
    return pa.table({"path": origins, "truth": table["label"], "key": table["key"]})


def _first_rows(dataset: Dataset) -> dict[str, int]:
    """The row of ``stored_images`` at which each shard begins."""
    records = {shard.file: shard.records for shards in dataset.manifest.shards.values() for shard in shards}
    names = sorted(records)
    return dict(zip(names, itertools.accumulate((records[name] for name in names), initial=0), strict=False))


def _table(found: pa.Table, split: str, names: list[str], classes: np.ndarray, shares: np.ndarray) -> pa.Table:
    """The rows of one rank's images, which are ``found``."""
    assert found.num_rows == len(classes), f"{split}: {len(classes)} predictions for {found.num_rows} images"
    labels = pa.array(names, pa.string()).take(pa.array(classes.ravel()))
    each = pa.StructArray.from_arrays([labels, pa.array(shares.ravel())], ["label", "confidence"])
    borders = np.arange(0, classes.size + 1, classes.shape[1], dtype=np.int32)
    return pa.table(
        {
            "path": found["path"],
            "split": pa.repeat(pa.scalar(split), found.num_rows),
            "truth": found["truth"],
            "label": labels.take(pa.array(borders[:-1])),
            "confidence": pa.array(shares[:, 0]),
            "top": pa.ListArray.from_arrays(pa.array(borders), each),
        }
    )
