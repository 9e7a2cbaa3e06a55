"""A crew's stages: when there is a new one, and with how many agents."""

from types import SimpleNamespace
from typing import Any

import pytest

from distributed_cls.barrier import crew as crew_module
from distributed_cls.barrier.crew import Crew
from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import internals, preflight


class _Stage:
    """Stands for a barrier stage, which needs Spark: how many agents it was asked for, and whether it is alive."""

    def __init__(self, spark: Any, cluster: ClusterConfig, workers: int, *_: object) -> None:
        self.workers, self.alive, self.ended = workers, True, False

    def can_grow(self) -> bool:
        return False

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that passes only while somebody sleeps; an executor that was lost is replaced after 40 s of it."""
    slept: list[float] = []
    monkeypatch.setattr(preflight, "time", SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append))
    monkeypatch.setattr(internals, "max_concurrent_tasks", lambda *_: 1 if 0 < sum(slept) < 40 else 2)
    monkeypatch.setattr(crew_module, "Stage", _Stage)
    return slept


def _spark() -> Any:
    return SimpleNamespace(sparkContext=SimpleNamespace(master="spark://node:7077", getConf=dict))


@pytest.mark.parametrize("least", [None, 1])
def test_after_a_loss_the_next_stage_waits_for_a_late_executor(waited: list[float], least: int | None) -> None:
    crew = Crew(ClusterConfig(workers=2, min_workers=least, slot_timeout=60))
    first: Any = crew.stage(_spark())
    assert crew.stage(_spark()) is first and waited == []
    first.alive = False
    waited.append(0.5)  # the loss is noticed: one slot is left from here on
    second: Any = crew.stage(_spark())
    assert second is not first and second.workers == 2, "all of them, though fewer would do"
    assert first.ended and sum(waited) == 40


def test_no_longer_than_slot_timeout(waited: list[float]) -> None:
    crew = Crew(ClusterConfig(workers=2, slot_timeout=30))
    first: Any = crew.stage(_spark())
    first.alive = False
    waited.append(0.5)
    with pytest.raises(UserError, match=r"Expected 2 slots .* Received: 1 after 30 s \(cluster\.slot_timeout\)"):
        crew.stage(_spark())
    assert sum(waited) == 0.5 + 30 and crew.slots == 0
