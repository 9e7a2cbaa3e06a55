"""Which records each rank reads, and in how many steps: pure arithmetic, the same on every rank.

Every rank must take the same number of steps, or the collectives of the others wait forever. The counts come
from the manifest, so all ranks reach the same answer without talking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Whole shards are assigned while the ranks' records differ by at most one part in so many.
_MAX_IMBALANCE = 50


@dataclass(frozen=True)
class Range:
    """Records ``start`` to ``stop`` (excluded) of shard number ``shard``."""

    shard: int
    start: int
    stop: int

    @property
    def records(self) -> int:
        return self.stop - self.start


def rank_ranges(records: Sequence[int], world_size: int, rank: int) -> list[Range]:
    """The part of a split that ``rank`` of ``world_size`` reads. ``records``: records of each shard.

    Whole shards, round-robin, when that gives all ranks about the same; otherwise equal runs of the records in shard
    order, so that no rank starves with fewer shards than ranks, or with shards of unequal size: the rank with the
    fewest records sets the number of steps of all.
    """
    assigned = [list(range(first, len(records), world_size)) for first in range(world_size)]
    totals = [sum(records[shard] for shard in shards) for shards in assigned]
    if max(totals) - min(totals) <= max(1, sum(records) // world_size // _MAX_IMBALANCE):
        return [Range(shard, 0, records[shard]) for shard in assigned[rank] if records[shard]]
    total = sum(records)
    first, last = total * rank // world_size, total * (rank + 1) // world_size
    ranges, offset = [], 0
    for shard, count in enumerate(records):
        start, stop = max(first - offset, 0), min(last - offset, count)
        if start < stop:
            ranges.append(Range(shard, start, stop))
        offset += count
    return ranges


def rank_records(records: Sequence[int], world_size: int) -> list[int]:
    """How many records each rank reads."""
    return [sum(part.records for part in rank_ranges(records, world_size, rank)) for rank in range(world_size)]


def train_steps(records: Sequence[int], world_size: int, global_batch: int) -> int:
    """Steps of one training epoch: as many full global batches as the rank with the fewest records fills, at least one.

    What does not fill a batch is left out, other images each epoch. A rank with less than one batch repeats its
    images within it.
    """
    return max(1, min(rank_records(records, world_size)) // (global_batch // world_size))


def evaluation_steps(records: Sequence[int], world_size: int, global_batch: int) -> int:
    """Steps that show every record once: as many as the rank with the most records needs; the others pad."""
    return -(-max(rank_records(records, world_size)) // (global_batch // world_size))
