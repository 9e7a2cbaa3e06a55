"""Who reads what, in how many steps."""

import itertools
import random

import pytest

from distributed_cls.training.sharding import Range, RankLanes, evaluation_steps, ranges_of, rank_run, train_steps

WORLDS = [1, 2, 3, 4, 7]


def _splits() -> list[list[int]]:
    """Splits of every awkward form: fewer shards than ranks, a number of them that does not divide, uneven ones."""
    chance = random.Random(0)
    awkward = [[7], [1, 1, 1], [100, 1], [1, 100], [5, 0, 3], [10] * 8, [3, 4, 5, 6, 7], [0, 0, 9]]
    return awkward + [[chance.randint(0, 50) for _ in range(chance.randint(1, 12))] for _ in range(40)]


@pytest.mark.parametrize("world", WORLDS)
def test_every_record_is_evaluated_by_exactly_one_rank(world: int) -> None:
    for records in _splits():
        parts = [part for rank in range(world) for part in ranges_of(records, rank_run(records, world, rank))]
        read = [(part.shard, index) for part in parts for index in range(part.start, part.stop)]
        assert read == [(shard, index) for shard, count in enumerate(records) for index in range(count)]
        assert all(part.records for part in parts)
        shares = [len(rank_run(records, world, rank)) for rank in range(world)]
        assert max(shares) - min(shares) <= 1
        for batch in (1, 4, 16):
            shown = evaluation_steps(records, world, batch) * batch
            assert shown >= max(shares) > shown - batch


def test_a_run_is_cut_at_the_borders_of_shards() -> None:
    assert ranges_of([9], range(3, 6)) == [Range(0, 3, 6)]
    assert ranges_of([4, 2], range(2, 4)) == [Range(0, 2, 4)]
    assert ranges_of([3, 0, 3, 3], range(4, 9)) == [Range(2, 1, 3), Range(3, 0, 3)]
    assert ranges_of([3], range(0)) == []


CUTS = [(records, lanes, world, local) for records in (3, 50, 641) for lanes in (1, 4, 16, 60) for world, local in
        [(1, 1), (2, 1), (3, 1), (4, 1), (2, 3), (3, 2), (1, 4)] if world * local <= lanes]  # fmt: skip


@pytest.mark.parametrize(("records", "lanes", "world", "local"), CUTS)
def test_lanes_are_the_same_for_any_number_of_ranks(records: int, lanes: int, world: int, local: int) -> None:
    batch = lanes * 4
    alone = RankLanes(records, lanes, batch, 1, 0)
    ranks = [RankLanes(records, lanes, batch, world, rank, local) for rank in range(world)]
    assert [lane for part in ranks for lane in part.own] == list(range(lanes))
    assert max(len(part.own) for part in ranks) - min(len(part.own) for part in ranks) <= 1
    assert [number for part in ranks for number in part.in_batch] == list(range(batch))
    assert all(sum(part.replica_sizes) == part.batch_size == len(part.in_batch) for part in ranks)
    sizes = [size for part in ranks for size in part.replica_sizes]
    assert min(sizes) > 0 and max(sizes) - min(sizes) <= 4
    for part in ranks:
        for lane in part.own:
            run = part.lane(lane)
            assert run == alone.lane(lane) and run
            assert part.run.start <= run.start and run.stop <= part.run.stop
    covered = [set(alone.lane(lane)) for lane in range(lanes)]
    assert set().union(*covered) == set(range(records))
    if records >= lanes:  # every record belongs to one lane
        assert all(not one & other for one, other in itertools.combinations(covered, 2))
    # Each lane has what its steps take, once there is a whole batch.
    if records >= batch:
        assert min(map(len, covered)) >= train_steps([records], batch) * alone.slice_size


def test_steps_are_the_full_global_batches() -> None:
    assert [train_steps(records, 32) for records in ([64], [30, 33], [100, 1], [7], [32])] == [2, 1, 3, 1, 1]
