"""What a predict or stream job counts and prints at its end."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from distributed_cls.contracts import predict_output
from distributed_cls.contracts.predict_output import Prediction
from distributed_cls.contracts.predicted import PredictedClass, PredictionSummary, UnreadImage
from distributed_cls.inference import prediction_summary

OUTPUT = "/data/" + "long name " * 12 + "out"


def printed(**figures: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    prediction_summary.show(PredictionSummary("predict", "cnn", "1", "/in", OUTPUT, **figures), console)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_one_image_paths_that_are_not_cut_and_names_that_look_like_markup() -> None:
    reject = UnreadImage("/data/" + "x" * 200 + ".jpg", "empty: 0 bytes")
    lines = printed(classified=1, labels={"[bold]coupe": PredictedClass(1, 0.5)}, rejected=1, rejects=[reject])
    assert lines[0] == "1 image classified by cnn"
    assert any("[bold]coupe" in line for line in lines)
    assert "  1 image could not be read; the row says why:" in lines
    assert f"    {reject.path}: empty: 0 bytes" in lines
    assert lines[-1] == f"  results: {OUTPUT}"


def test_many_and_none() -> None:
    text = "\n".join(printed(rejected=1234, rejects=[UnreadImage(f"/{number}", "empty") for number in range(20)]))
    assert "0 images classified by cnn\n" in text
    assert "━" not in text  # no table of nothing
    assert "1,234 images could not be read" in text
    assert "and 1,231 more" in text
    assert "below the model's threshold" not in text
    lines = printed(classified=1, none_of_these=2)
    assert "  2 images below the model's threshold: none of these classes" in lines
    lines = printed(classified=2000, labels={"coupe": PredictedClass(2000, 0.5)}, labelled=1999, correct=1974)
    assert "  accuracy 98.7% of the 1,999 images whose class is known" in lines


def test_all_rows_of_all_files_are_counted(tmp_path: Path) -> None:
    rows = [
        Prediction("/a", "cat", 0.75, (("cat", 0.75), ("dog", 0.25)), truth="cat"),
        Prediction("/b", "cat", 0.25, (("cat", 0.25),), truth="dog"),
        Prediction("/c", "dog", 0.5, (("dog", 0.5),)),
        Prediction("/d", error="empty: 0 bytes", truth="dog"),
        Prediction("/e", "dog", 0.2, (("dog", 0.2),), truth="cat", accepted=False),
    ]
    for name, part in (("one", rows[:1]), ("two", rows[1:])):
        (tmp_path / name).write_bytes(predict_output.to_parquet(part))
    summary = PredictionSummary("predict", "cnn", "1", "/in", str(tmp_path))
    summary = prediction_summary.counted(summary, ["one", "two"])
    assert (summary.images, summary.classified, summary.rejected, summary.files) == (5, 3, 1, 2)
    assert summary.none_of_these == 1
    assert summary.labels == {"cat": PredictedClass(2, 0.5), "dog": PredictedClass(1, 0.5)}
    assert summary.rejects == [UnreadImage("/d", "empty: 0 bytes")]
    assert summary.accuracy == pytest.approx(1 / 2)
