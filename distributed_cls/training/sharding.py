"""Which records each rank reads, and in how many steps: pure arithmetic, the same on every rank.

A split is cut into *lanes*, as many as the settings say and whatever the number of ranks. A global batch is one slice
of every lane; a rank computes whole lanes. So the global batches of a run are the same for any number of ranks, and
only their distribution changes. Every rank must take the same number of steps, or the collectives of the others wait
forever: the counts come from the manifest, so all ranks reach the same answer without talking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distributed_cls.config import TrainConfig


@dataclass(frozen=True)
class Range:
    """Records ``start`` to ``stop`` (excluded) of shard number ``shard``."""

    shard: int
    start: int
    stop: int

    @property
    def records(self) -> int:
        return self.stop - self.start


def share(count: int, parts: int, part: int) -> range:
    """The run of ``count`` things that part number ``part`` of ``parts`` gets: lengths differ by at most one."""
    return range(count * part // parts, count * (part + 1) // parts)


def ranges_of(records: Sequence[int], run: range) -> list[Range]:
    """A run of a split's records, counted in shard order, as ranges of its shards. ``records``: of each shard."""
    ranges, offset = [], 0
    for shard, count in enumerate(records):
        start, stop = max(run.start - offset, 0), min(run.stop - offset, count)
        if start < stop:
            ranges.append(Range(shard, start, stop))
        offset += count
    return ranges


def rank_run(records: Sequence[int], world_size: int, rank: int) -> range:
    """The records of a split that ``rank`` evaluates, counted in shard order."""
    return share(sum(records), world_size, rank)


def train_steps(records: Sequence[int], global_batch: int) -> int:
    """Steps of one training epoch: as many full global batches as there are records for, at least one.

    What does not fill a batch is left out, other images each epoch. With less than one batch, images repeat within it.
    """
    return max(1, sum(records) // global_batch)


def evaluation_steps(records: Sequence[int], world_size: int, rank_batch: int) -> int:
    """Steps that show every record once: as many as the rank with the most records needs; the others pad."""
    return -(-max(len(rank_run(records, world_size, rank)) for rank in range(world_size)) // rank_batch)


@dataclass(frozen=True)
class RankLanes:
    """The lanes of the train split that one rank computes: a run of all of them, cut into one run per replica.

    records: of the whole split. lanes: of the whole split; each gives ``global_batch // lanes`` images to every step.
    """

    records: int
    lanes: int
    global_batch: int
    world_size: int
    rank: int
    local_replicas: int = 1

    @classmethod
    def of(
        cls, records: Sequence[int], train: TrainConfig, world_size: int, rank: int, local_replicas: int = 1
    ) -> "RankLanes":
        """The lanes of ``rank`` as the settings want them. ``records``: of each shard of the train split."""
        return cls(sum(records), train.lane_count, train.batch_size, world_size, rank, local_replicas)

    @property
    def own(self) -> range:
        return share(self.lanes, self.world_size, self.rank)

    @property
    def slice_size(self) -> int:
        """Images of one lane in a step."""
        return self.global_batch // self.lanes

    @property
    def batch_size(self) -> int:
        """Images of this rank in a step."""
        return len(self.own) * self.slice_size

    @property
    def in_batch(self) -> range:
        """Which images of the global batch are this rank's."""
        return range(self.own.start * self.slice_size, self.own.stop * self.slice_size)

    @property
    def replica_sizes(self) -> list[int]:
        """Images of each replica of this rank in a step; they differ where the lanes cannot be dealt out evenly."""
        replicas, first = self.world_size * self.local_replicas, self.rank * self.local_replicas
        return [
            len(share(self.lanes, replicas, first + local)) * self.slice_size for local in range(self.local_replicas)
        ]

    def lane(self, lane: int) -> range:
        """The records of a lane, counted in shard order. Never none: with fewer records than lanes, some share one."""
        run = share(self.records, self.lanes, lane)
        return run or range(run.start, run.start + 1)

    @property
    def run(self) -> range:
        """The records that this rank reads, counted in shard order."""
        return range(self.lane(self.own.start).start, self.lane(self.own.stop - 1).stop)
