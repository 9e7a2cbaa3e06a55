"""A preparation without Spark, for the tests that run a whole one."""

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from distributed_cls.spark import stage

Task = Callable[[Iterable[Any]], Iterable[Any]]


class Here:
    """In place of Spark: runs every task in this process and remembers what it decoded."""

    def __init__(self) -> None:
        self.decoded = 0
        self.started = 0
        self.slots = 2

    def get(self) -> Any:
        self.started += 1
        return types.SimpleNamespace(sparkContext=types.SimpleNamespace(defaultParallelism=self.slots))

    def run(self, _spark: object, name: str, task: Task, items: Sequence[Any]) -> list[Any]:
        if name.endswith("decode"):
            self.decoded += sum(part.images for part in items)
        return [result for item in items for result in task(iter([item]))]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    made = Here()
    monkeypatch.setattr(stage, "run", made.run)
    return made
