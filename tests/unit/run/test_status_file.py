"""``status.json``: what another program sees of a run while it goes on, and after its end."""

import json
import os
from pathlib import Path

import pytest

from distributed_cls.contracts import status as statuses
from distributed_cls.contracts.events import AttemptStarted, EpochEnded, Metrics, Phase, PhaseStarted, TrainProgressed
from distributed_cls.contracts.status import FILE, State, Status
from distributed_cls.errors import UserError
from distributed_cls.run import status_file as status_module
from distributed_cls.run.status_file import StatusFile


def _step(step: int, loss: float = 0.5) -> TrainProgressed:
    return TrainProgressed(rank=0, epoch=2, epochs=4, step=step, steps=400, values=Metrics(loss, 0.75, 1000.0))


def test_a_run_from_its_first_stage_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(status_module.time, "monotonic", lambda: now)
    file = StatusFile(tmp_path, "pipeline")
    with file.following():
        assert not (tmp_path / FILE).exists()
        with file.stage("spark"):
            assert statuses.read(tmp_path).stage == "spark"
        file(AttemptStarted(number=2, of=3, workers=2))
        file(PhaseStarted(rank=0, phase=Phase.TRAIN))
        file(PhaseStarted(rank=1, phase=Phase.EVALUATE))
        seen = statuses.read(tmp_path)
        assert (seen.job, seen.state, seen.stage, seen.attempt) == ("pipeline", State.RUNNING, "train", 2)
        assert seen.pid == os.getpid() and seen.began <= seen.updated
        now = 51.5
        file(_step(100))
        now = 53.5
        file(_step(200))
        seen = statuses.read(tmp_path)
        assert (seen.epoch, seen.epochs, seen.step, seen.steps) == (2, 4, 200, 400)
        assert seen.train == Metrics(0.5, 0.75, 1000.0) and seen.seconds_left == 4.0  # 100 steps took 2 s
        file(_step(201, loss=0.1))  # too soon after the last one
        assert statuses.read(tmp_path) == seen
        file(EpochEnded(rank=0, split="train", epoch=2, step=200, values=Metrics(0.25, 0.5)))
        file(EpochEnded(rank=0, split="val", epoch=2, step=200, values=Metrics(0.75, 0.625)))
        seen = statuses.read(tmp_path)
        assert (seen.train, seen.val) == (Metrics(0.25, 0.5), Metrics(0.75, 0.625))
    ended = statuses.read(tmp_path)
    assert (ended.state, ended.stage, ended.seconds_left, ended.step) == (State.DONE, "", None, 201)


@pytest.mark.parametrize(
    ("raised", "state", "said"),
    [(UserError("no room"), State.FAILED, "no room"), (KeyboardInterrupt(), State.INTERRUPTED, None)],
)
def test_an_end_before_its_time_keeps_the_stage(
    tmp_path: Path, raised: BaseException, state: State, said: str | None
) -> None:
    file = StatusFile(tmp_path, "train")
    with pytest.raises(type(raised)), file.following(), file.stage("prepare"):
        raise raised
    ended = statuses.read(tmp_path)
    assert (ended.state, ended.stage, ended.error) == (state, "prepare", said)


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError), StatusFile(tmp_path, "train").following():
        raise UserError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_does_not_hide_what_ended_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    file = StatusFile(folder, "train")
    with pytest.raises(UserError, match="the reason"), file.following(), file.stage("prepare"):
        (folder / FILE).unlink()
        folder.rmdir()
        folder.touch()  # nothing can be written below it
        raise UserError("the reason")


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"state": "fine"}, {"step": "many"}, {"colour": 1}])
def test_damage_and_newer_versions_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    statuses.write(tmp_path, Status("train", 1.0, 2.0, 3))
    content = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    (tmp_path / FILE).write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(UserError, match="Give the folder of a run"):
        statuses.read(tmp_path)
