"""What a person reads while ranks train, off a terminal."""

from pathlib import Path
from typing import Any

import pytest

from distributed_cls.config import Config
from distributed_cls.contracts.events import (
    AttemptStarted,
    EpochEnded,
    Metrics,
    Noted,
    Phase,
    PhaseProgressed,
    PhaseStarted,
    TrainProgressed,
)
from distributed_cls.run import progress as progress_module
from distributed_cls.run.progress import TrainingView
from distributed_cls.run_context import Run


def test_counted_things_have_a_throughput_and_an_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.0)
    with progress_module.showing("lines") as display:
        display.begin("images")
        display.count("images", 500, 4_500)  # what an earlier run has done is no throughput
        assert "images/s" not in capsys.readouterr().out
        now = 104.0
        display.count("images", 2_500, 4_500)
        assert capsys.readouterr().out.rstrip().endswith("images  2,500/4,500  500 images/s  4 s left")


def test_one_line_per_epoch_and_progress_only_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_module.showing("lines") as display:
        view = TrainingView(display)
        view(PhaseStarted(rank=0, phase=Phase.TENSORFLOW))
        half = TrainProgressed(rank=0, epoch=3, epochs=5, step=1150, steps=2000, values=Metrics(0.5, 0.75, 1234.5))
        capsys.readouterr()
        view(half)
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.0)
        view(half)
        shown = capsys.readouterr().out
        assert "epoch 3/5" in shown and "1,150/2,000" in shown
        assert "1,234 images/s  loss 0.500  accuracy 0.750" in shown
        view(EpochEnded(rank=0, split="train", epoch=3, step=1200, values=Metrics(0.25, 0.875, 2000.0)))
        assert capsys.readouterr().out == ""
        view(EpochEnded(rank=0, split="val", epoch=3, step=1200, values=Metrics(0.5, 0.75)))
        [line] = capsys.readouterr().out.splitlines()
        assert "epoch   3/5" in line and "loss 0.2500" in line and "val loss 0.5000" in line and "2,000" in line
        view(Noted(rank=0, text="global batch 128 = 2 ranks × 64"))
        assert "global batch 128 = 2 ranks × 64" in capsys.readouterr().out


def test_each_stage_has_a_line_as_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before its work, which takes seconds: nobody shall ask what goes on. Stages of a moment have none."""
    at_start = ""

    def spark() -> Any:
        nonlocal at_start
        at_start = capsys.readouterr().out

    with progress_module.showing("lines") as display:
        Run(Config(), tmp_path, spark).start_spark(display)
        view = TrainingView(display, workers=3)
        view(AttemptStarted(number=1, of=3, workers=2))
        for phase in Phase:
            view(PhaseStarted(rank=1, phase=phase))
            view(PhaseStarted(rank=0, phase=phase))
    assert at_start.split(maxsplit=1)[1:] == ["starting Spark …\n"]
    said = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said[0] == "starting 2 of 3 workers …"
    wanted = ("starting TensorFlow …", "tracing the training step …", "evaluating …", "exporting the model …")
    assert [line for line in said if line in wanted] == list(wanted)


def test_what_is_counted_between_the_epochs_is_the_validation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.0)
    with progress_module.showing("lines") as display:
        view = TrainingView(display)
        for phase, title in ((Phase.DATASET, "checking shards"), (Phase.TRAIN, "validating")):
            view(PhaseStarted(rank=0, phase=phase))
            capsys.readouterr()
            view(PhaseProgressed(rank=0, done=5, total=6))
            assert capsys.readouterr().out.rstrip().endswith(f"{title}  5/6")
