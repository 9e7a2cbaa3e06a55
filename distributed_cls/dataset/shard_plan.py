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

MEGABYTE = 1e6
TASK_SECONDS = 8.0  # what a decoding task should take: much more than the ~0.05 s that Spark adds to it
BYTES_PER_SECOND = 40e6  # of encoded images that a core decodes, roughly
IMAGE_SECONDS = 5e-4  # what an image costs besides its bytes: opening, resizing, encoding


@dataclass(frozen=True)
class DecodePart:
    """The work of one decoding task: a name that says what is in it, its number of images, its rows as a message."""

    name: str
    images: int
    rows: bytes


def decode_parts(rows: pa.Table, cores: int) -> list[DecodePart]:
    """Cut the rows into runs of about equal cost, one for each task."""
    cost = np.cumsum(np.maximum(rows["size"].to_numpy(), 0) / BYTES_PER_SECOND + IMAGE_SECONDS)
    number = int(min(rows.num_rows, max(cores, np.ceil(cost[-1] / TASK_SECONDS))))
    if number > cores:
        number = -(-number // cores) * cores  # the last wave is full too
    borders = np.searchsorted(cost, cost[-1] * np.arange(1, number) / number) + 1
    borders = np.unique(np.concatenate([[0], borders, [rows.num_rows]]))
    parts = []
    for start, end in itertools.pairwise(borders.tolist()):
        message = index.to_bytes(rows.slice(start, end - start).combine_chunks())
        parts.append(DecodePart(hashlib.blake2b(message, digest_size=8).hexdigest(), end - start, message))
    return parts


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its split, its file name, its rows (file, offset, length, label number, key)."""

    split: str
    file: str
    rows: pa.Table


def shards(curated: curate.Curated, config: DataConfig) -> list[ShardPlan]:
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
    numbers = split.shard_counts(
        [len(rows) for rows in members], sizes, config.shards, config.shard_megabytes * MEGABYTE
    )
    if config.shards and numbers[0] != config.shards:
        log.info("data.shards=%d became %d: the train split has no more images", config.shards, numbers[0])
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
