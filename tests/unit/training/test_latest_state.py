"""States in memory: what one process leaves, the next one finds, half-written ones apart."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from distributed_cls.contracts.checkpoint import Arrays, Position
from distributed_cls.training.latest_state import LatestState


@pytest.fixture
def places() -> Iterator[list[int]]:
    descriptors = [os.memfd_create("state") for _ in range(2)]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def _state(step: int) -> tuple[Arrays, Position]:
    return {"00000:kernel": np.full((3, 2), step, np.float32)}, Position(step=step, sums=[[float(step), 1.0]])


def test_the_next_process_finds_the_latest_two(places: list[int]) -> None:
    state = LatestState(places)
    assert state.found == {}
    for step in (10, 20, 30):
        state.save(*_state(step))
    found = LatestState(places).found
    assert sorted(found) == [20, 30]
    arrays, position = found[30]
    np.testing.assert_array_equal(arrays["00000:kernel"], np.full((3, 2), 30, np.float32))
    assert position == Position(step=30, sums=[[30.0, 1.0]])


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_state_that_is_half_written_leaves_the_one_before(places: list[int], kept: int) -> None:
    state = LatestState(places)
    for step in (10, 20, 30):
        state.save(*_state(step))
    os.ftruncate(places[0], kept)  # the third went into the first place
    after = LatestState(places)
    assert list(after.found) == [20]
    after.save(*_state(25))  # in the place of the damaged one
    assert sorted(LatestState(places).found) == [20, 25]


def test_a_changed_byte_is_noticed(places: list[int]) -> None:
    LatestState(places).save(*_state(10))
    size = os.fstat(places[0]).st_size
    for offset in range(60, size - 1, 97):
        byte = os.pread(places[0], 1, offset)
        os.pwrite(places[0], bytes([byte[0] ^ 0x10]), offset)
        found = LatestState(places).found
        if found:  # of a byte that carries nothing, such as a time in the zip's directory
            np.testing.assert_array_equal(found[10][0]["00000:kernel"], _state(10)[0]["00000:kernel"])
        os.pwrite(places[0], byte, offset)
