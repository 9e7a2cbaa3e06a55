"""Who reads what, in how many steps."""

import random

import pytest

from distributed_cls.training.sharding import Range, evaluation_steps, rank_ranges, rank_records, train_steps

WORLDS = [1, 2, 3, 4, 7]


def _splits() -> list[list[int]]:
    """Splits of every awkward form: fewer shards than ranks, a number of them that does not divide, uneven ones."""
    chance = random.Random(0)
    awkward = [[7], [1, 1, 1], [100, 1], [1, 100], [5, 0, 3], [10] * 8, [3, 4, 5, 6, 7], [0, 0, 9]]
    return awkward + [[chance.randint(0, 50) for _ in range(chance.randint(1, 12))] for _ in range(40)]


@pytest.mark.parametrize("world", WORLDS)
def test_every_record_is_read_by_exactly_one_rank(world: int) -> None:
    for records in _splits():
        parts = [part for rank in range(world) for part in rank_ranges(records, world, rank)]
        read = [(part.shard, index) for part in parts for index in range(part.start, part.stop)]
        assert sorted(read) == [(shard, index) for shard, count in enumerate(records) for index in range(count)]
        assert all(part.records for part in parts)


@pytest.mark.parametrize("world", WORLDS)
def test_no_rank_is_starved(world: int) -> None:
    """The poorest rank has its fair share of the split: it sets the number of steps of all."""
    for records in _splits():
        shares = rank_records(records, world)
        assert sum(shares) == sum(records)
        assert max(shares) - min(shares) <= max(1, sum(records) / world / 50), records


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("per_rank", [1, 4, 16])
def test_steps_are_those_that_the_shares_allow(world: int, per_rank: int) -> None:
    for records in _splits():
        shares, batch = rank_records(records, world), per_rank * world
        steps = train_steps(records, world, batch)
        full = steps * per_rank <= min(shares) < (steps + 1) * per_rank
        assert full or (steps == 1 and min(shares) < per_rank), records
        shown = evaluation_steps(records, world, batch) * per_rank
        assert shown >= max(shares) > shown - per_rank, records


def test_whole_shards_are_dealt_in_turn_when_that_is_even() -> None:
    assert rank_ranges([10, 10, 10, 10], 2, 1) == [Range(1, 0, 10), Range(3, 0, 10)]


def test_few_shards_are_cut() -> None:
    assert [rank_ranges([9], 3, rank) for rank in range(3)] == [[Range(0, 0, 3)], [Range(0, 3, 6)], [Range(0, 6, 9)]]
    assert rank_ranges([4, 2], 3, 1) == [Range(0, 2, 4)]
    assert rank_ranges([3, 3, 3], 2, 1) == [Range(1, 1, 3), Range(2, 0, 3)]
