"""What a predict or stream job prints at its end."""

import pytest

from distributed_cls.inference import prediction_summary

TOLD = {"model": "cnn", "output": "/data/" + "long name " * 12 + "out", "labelled": 0, "rejects": [], "rejected": 0}


def test_one_image_paths_that_are_not_cut_and_names_that_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    label = {"[bold]coupe": {"images": 1, "mean_confidence": 0.5}}
    rejects = [{"path": "/data/" + "x" * 200 + ".jpg", "error": "empty: 0 bytes"}]
    prediction_summary.show({**TOLD, "classified": 1, "labels": label, "rejected": 1, "rejects": rejects})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 image classified by cnn"
    assert any("[bold]coupe" in line for line in printed)
    assert "  1 image could not be read; the row says why:" in printed
    assert f"    {rejects[0]['path']}: empty: 0 bytes" in printed
    assert printed[-1] == f"  results: {TOLD['output']}"


def test_many_and_none(capsys: pytest.CaptureFixture[str]) -> None:
    rejects = [{"path": f"/{number}", "error": "empty"} for number in range(20)]
    prediction_summary.show({**TOLD, "classified": 0, "labels": {}, "rejected": 1234, "rejects": rejects})
    printed = capsys.readouterr().out
    assert "0 images classified by cnn\n" in printed
    assert "━" not in printed  # no table of nothing
    assert "1,234 images could not be read" in printed
    assert "and 1,231 more" in printed
    label = {"coupe": {"images": 2000, "mean_confidence": 0.5}}
    prediction_summary.show({**TOLD, "classified": 2000, "labels": label, "labelled": 1999, "accuracy": 0.98765})
    assert "accuracy 98.8% of the 1,999 images whose class is known" in capsys.readouterr().out
