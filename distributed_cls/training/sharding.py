"""Which records each rank reads, and in how many steps: pure arithmetic, the same on every rank.

Every rank must take the same number of steps, or the collectives of the others wait forever. The counts come
from the manifest, so all ranks reach the same answer without talking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Whole shards are dealt while the ranks' shares differ by at most one part in so many.
_FAIR_PARTS = 50


@dataclass(frozen=True)
class Range:
    """Records ``start`` to ``stop`` (excluded) of shard number ``shard``."""

    shard: int
    start: int
    stop: int

    @property
    def records(self) -> int:
        return self.stop - self.start


def rank_ranges(records: Sequence[int], world: int, rank: int) -> list[Range]:
    """The part of a split that ``rank`` of ``world`` reads. ``records``: records of each shard.

    Whole shards, dealt in turn, when that gives all ranks about the same; otherwise equal runs of the records in
    shard order, so that fewer shards than ranks, or shards of unequal size, starve nobody: the poorest rank sets the
    number of steps of all.
    """
    dealt = [list(range(first, len(records), world)) for first in range(world)]
    shares = [sum(records[shard] for shard in hand) for hand in dealt]
    if max(shares) - min(shares) <= max(1, sum(records) // world // _FAIR_PARTS):
        return [Range(shard, 0, records[shard]) for shard in dealt[rank] if records[shard]]
    total = sum(records)
    first, last = total * rank // world, total * (rank + 1) // world
    ranges, offset = [], 0
    for shard, count in enumerate(records):
        start, stop = max(first - offset, 0), min(last - offset, count)
        if start < stop:
            ranges.append(Range(shard, start, stop))
        offset += count
    return ranges


def rank_records(records: Sequence[int], world: int) -> list[int]:
    """How many records each rank reads."""
    return [sum(part.records for part in rank_ranges(records, world, rank)) for rank in range(world)]


def train_steps(records: Sequence[int], world: int, global_batch: int) -> int:
    """Steps of one training epoch: as many full global batches as the poorest rank can fill, at least one.

    What does not fill a batch is left out, other images each epoch. A rank with less than one batch repeats its
    images within it.
    """
    return max(1, min(rank_records(records, world)) // (global_batch // world))


def evaluation_steps(records: Sequence[int], world: int, global_batch: int) -> int:
    """Steps that show every record once: as many as the richest rank needs; the others pad with weight zero."""
    return -(-max(rank_records(records, world)) // (global_batch // world))
