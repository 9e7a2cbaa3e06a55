"""What the events of a stage leave in the run folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from distributed_cls.run import recorder as recorder_module
from distributed_cls.run.recorder import Recorder, write_evaluation


class Clock:
    """Stands in for the module ``time``."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorder_module, "time", clock)
    return clock


def _tell(recorder: Recorder, kind: str, rank: int = 0, **values: Any) -> None:
    recorder({"event": kind, "rank": rank, **values})


def test_logs_and_metrics_are_there_line_by_line_while_the_stage_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for rank in (0, 1, 0):
        _tell(recorder, "log", rank, line=f"ä {rank}")
    _tell(recorder, "heartbeat", step=3)
    _tell(recorder, "epoch", split="val", epoch=1, values={"loss": 0.5})
    assert (tmp_path / "logs" / "rank-0.log").read_text(encoding="utf-8") == "ä 0\nä 0\n"
    assert (tmp_path / "logs" / "rank-1.log").read_text(encoding="utf-8") == "ä 1\n"
    [line] = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["values"] == {"loss": 0.5}
    recorder.close()


def test_the_seconds_of_stages_are_those_of_rank_0_in_the_last_attempt(tmp_path: Path, clock: Clock) -> None:
    recorder = Recorder(tmp_path)
    _tell(recorder, "attempt", number=1)
    clock.now = 1007
    _tell(recorder, "attempt", number=2)  # seven seconds were lost
    for time, name in [(1008, "tensorflow"), (1013, "cluster"), (1014, "dataset"), (1015, "train")]:
        _tell(recorder, "phase", time=time, name=name)
        _tell(recorder, "phase", rank=1, time=time + 50, name=name)
    _tell(recorder, "first_step", time=1018)
    _tell(recorder, "phase", time=1030, name="evaluate")
    clock.now = 1032
    seconds = recorder.stage_seconds()
    # tensorflow: its import and its cluster; tracing: from the data set to the first step.
    assert seconds.items() >= {"rendezvous": 1, "tensorflow": 6, "tracing": 4, "train": 12, "evaluate": 2}.items()
    assert sum(seconds.values()) == 32


def _paths(keys: list[str]) -> list[str]:
    return [f"/photos/{key}.png" for key in keys]


def test_the_surest_mistakes_of_all_ranks_in_the_last_attempt(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    _tell(recorder, "attempt", number=1)
    _tell(recorder, "mistakes", split="val", items=[{"key": "old", "confidence": 1.0}])
    _tell(recorder, "attempt", number=2)
    for rank in (0, 1):
        items = [{"key": f"{number:02}-{rank}", "confidence": number / 20} for number in range(20)]
        _tell(recorder, "mistakes", rank, split="val", items=items)
    found = [item["key"] for item in recorder.mistakes("val")]
    assert found == [f"{number:02}-{rank}" for number in range(19, 7, -1) for rank in (0, 1)]
    counted = write_evaluation(tmp_path, {"val": {"examples": 40}, "test": {"examples": 9}}, recorder, _paths)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == counted
    assert [item["path"] for item in counted["val"]["mistakes"]] == _paths(found)
    assert len(counted["val"]["mistakes"]) == 24 and counted["test"] == {"examples": 9, "mistakes": []}
