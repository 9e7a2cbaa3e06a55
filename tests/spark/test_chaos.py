"""Runs that are disturbed, on two executors of a real cluster: they end by themselves, with the same bits."""

import random
from collections.abc import Iterator

import pytest

from benchmarks.chaos import Arena, arena
from benchmarks.faults import once


@pytest.fixture(scope="module")
def made() -> Iterator[Arena]:
    with arena(epochs=10) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(made: Arena) -> str:
    return made.bits(made.run())


@pytest.mark.parametrize(
    "fault",
    ["SIGKILL of a rank", "all checkpoints damaged", "control line cut for 5 s", "control line cut for good"],
)
def test_a_disturbed_run_has_the_weights_of_an_undisturbed_one(made: Arena, undisturbed: str, fault: str) -> None:
    seen = made.run(once(fault, random.Random(fault), after=0.5))
    assert seen.struck is not None
    assert made.bits(seen) == undisturbed


def test_the_end_of_an_executor_asks_the_ranks_for_a_checkpoint(made: Arena, undisturbed: str) -> None:
    """Whether they are through with it before Spark ends the other Python worker as well is a matter of their speed."""
    seen = made.run(once("SIGTERM of an executor", random.Random(1), after=0.5))
    assert seen.struck is not None and seen.preempted
    assert made.bits(seen) == undisturbed
