"""What a person reads while ranks train, off a terminal."""

from typing import Any

import pytest

from distributed_cls.run import progress as progress_module
from distributed_cls.run.progress import TrainingView


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


def _epoch(split: str, **values: float) -> dict[str, Any]:
    return {"event": "epoch", "rank": 0, "split": split, "epoch": 3, "step": 1200, "values": values}


def test_one_line_per_epoch_and_progress_only_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_module.showing("lines") as display:
        view = TrainingView(display)
        view({"event": "phase", "rank": 0, "name": "tensorflow"})
        progress = {"event": "progress", "rank": 0, "epoch": 3, "epochs": 5, "step": 1150, "steps": 2000}
        view({**progress, "values": {"loss": 0.5, "accuracy": 0.75, "images_per_second": 1234.5}})
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.0)
        view({**progress, "values": {"loss": 0.5, "accuracy": 0.75, "images_per_second": 1234.5}})
        shown = capsys.readouterr().out
        assert "epoch 3/5" in shown and "1,150/2,000" in shown
        assert "1,234 images/s  loss 0.500  accuracy 0.750" in shown
        view(_epoch("train", loss=0.25, accuracy=0.875, images_per_second=2000.0))
        assert capsys.readouterr().out == ""
        view(_epoch("val", loss=0.5, accuracy=0.5))
    [line] = capsys.readouterr().out.splitlines()
    assert "epoch   3/5  step  1,200  loss 0.2500  accuracy 0.8750" in line
    assert "val loss 0.5000  accuracy 0.5000" in line and line.endswith("2,000 images/s")
