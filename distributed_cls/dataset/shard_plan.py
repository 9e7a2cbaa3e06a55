"""How the work is cut: images into decoding tasks of equal cost, kept images into shards. Pure functions."""

import hashlib
import itertools
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import SPLITS
from distributed_cls.dataset import curate, split

log = logging.getLogger(__name__)

TASK_SECONDS = 8.0  # what a decoding task should take: much more than the ~0.05 s that Spark adds to it
BYTES_PER_SECOND = 40e6  # of encoded images that a core decodes, roughly
IMAGE_SECONDS = 5e-4  # what an image costs besides its bytes: opening, resizing, encoding


def decode_parts(rows: pa.Table, cores: int) -> list[tuple[str, bytes]]:
    """Cut the rows into runs of about equal cost: (name, rows as a message) for each task.

    A part's name says what is in it and ends in its number of images.
    """
    cost = np.cumsum(np.maximum(rows["size"].to_numpy(), 0) / BYTES_PER_SECOND + IMAGE_SECONDS)
    number = int(min(rows.num_rows, max(cores, np.ceil(cost[-1] / TASK_SECONDS))))
    if number > cores:
        number = -(-number // cores) * cores  # the last wave is full too
    borders = np.searchsorted(cost, cost[-1] * np.arange(1, number) / number) + 1
    borders = np.unique(np.concatenate([[0], borders, [rows.num_rows]]))
    parts = []
    for start, end in itertools.pairwise(borders.tolist()):
        message = index.to_bytes(rows.slice(start, end - start).combine_chunks())
        name = f"{hashlib.blake2b(message, digest_size=8).hexdigest()}-{end - start}"
        parts.append((name, message))
    return parts


def images_of(part_file: str) -> int:
    """How many images are in a part, from its file name."""
    return int(part_file.rsplit("-", 1)[1].split(".")[0])


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its split, its file name, its rows (file, offset, length, label number, key)."""

    split: str
    file: str
    rows: pa.Table


def shards(
    curated: curate.Curated, config: DataConfig, workers: int, wanted: int | None, target_bytes: float
) -> list[ShardPlan]:
    """Which image goes to which place of which shard.

    Within a split the order is pseudo-random by content, so classes are mixed and neither the order of the files nor
    the number of tasks shows.
    """
    kept = curated.kept()
    order = split.hash_order(curate.keys_of(kept["key"]), f"order:{config.seed}")
    splits, lengths = kept["split"].to_numpy(), kept["length"].to_numpy()
    members = [np.flatnonzero(splits == number) for number in range(len(SPLITS))]
    members = [rows[np.argsort(order[rows])] for rows in members]
    sizes = [int(lengths[rows].sum()) for rows in members]
    numbers = split.shard_counts([len(rows) for rows in members], sizes, workers, wanted, target_bytes)
    if wanted and numbers[0] != wanted:
        log.info("data.shards=%d became %d: a multiple of the %d workers", wanted, numbers[0], workers)
    labels = pc.cast(pc.index_in(kept["label"], pa.array(curated.classes)), pa.int64())
    kept = kept.select(["file", "offset", "length", "key"]).append_column("label", labels)
    plans = []
    for name, rows, number in zip(SPLITS, members, numbers, strict=True):
        borders = split.even_parts(len(rows), number)
        for shard in range(number):
            file = f"{name}-{shard:05d}-of-{number:05d}.tfrecord"
            plans.append(ShardPlan(name, file, kept.take(rows[borders[shard] : borders[shard + 1]]).combine_chunks()))
    return plans


def counts(curated: curate.Curated) -> dict[str, dict[str, int]]:
    """Images per split and class, zeros included."""
    kept = curated.kept()
    splits = kept["split"].to_numpy()
    labels = pc.index_in(kept["label"], pa.array(curated.classes)).to_numpy()
    return {
        name: dict(
            zip(curated.classes, np.bincount(labels[splits == n], minlength=len(curated.classes)).tolist(), strict=True)
        )
        for n, name in enumerate(SPLITS)
    }
