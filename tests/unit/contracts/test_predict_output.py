"""What predict and stream write is read again; what an older release wrote is read; what a newer one wrote is not."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.contracts import predict_output, predicted
from distributed_cls.contracts.predict_output import InputSlice, Prediction, PredictJob, StreamJob
from distributed_cls.contracts.predicted import PredictedClass, PredictionSummary, UnreadImage
from distributed_cls.errors import UserError

JOB = PredictJob("422c94ba", "/in", 5)
PARTS = [
    [InputSlice("/in/a.png", None, 1, 7), InputSlice("/in/t.parquet", 2, 30, 900)],
    [InputSlice("/b", None, 1, 0, "cat")],
]
SUMMARY = PredictionSummary(
    "predict",
    "cnn",
    "422c94ba",
    "/in",
    "",
    images=4,
    classified=2,
    none_of_these=1,
    rejected=1,
    labels={"cat": PredictedClass(2, 0.75)},
    rejects=[UnreadImage("/in/x", "empty")],
    labelled=2,
    correct=1,
    files=2,
    new_files=1,
    new_images=2,
    seconds=0.5,
)


def test_jobs_plans_rows_and_summaries_are_the_same_again(tmp_path: Path) -> None:
    output = str(tmp_path)
    assert predict_output.read_predict_job(output) is None
    predict_output.write_predict_job(output, JOB)
    predict_output.write_stream_job(output, StreamJob("/in"))
    predict_output.write_plan(output, PARTS)
    predicted.write(output, SUMMARY)
    assert predict_output.read_predict_job(output) == JOB
    assert predict_output.read_stream_job(output) == StreamJob("/in")
    assert predict_output.read_plan(output) == PARTS
    assert predicted.read(output) == SUMMARY
    assert json.loads((tmp_path / predicted.FILE).read_text())["accuracy"] == 0.5
    rows = [
        Prediction("/a", "cat", 0.75, (("cat", 0.75),), truth="dog", accepted=False),
        Prediction("/b", error="empty"),
    ]
    (tmp_path / "rows").write_bytes(predict_output.to_parquet(rows))
    found = list(predict_output.read_rows(str(tmp_path / "rows")))
    assert [(row.path, row.label, row.error, row.truth, row.accepted) for row in found] == [
        ("/a", "cat", None, "dog", False),
        ("/b", None, "empty", None, None),
    ]
    assert pq.read_table(tmp_path / "rows")["top"].to_pylist() == [[{"label": "cat", "confidence": 0.75}], None]


def test_what_the_first_release_wrote_is_read(tmp_path: Path) -> None:
    output = str(tmp_path)
    old_job = {"model_version": "422c94ba", "data.path": "/in", "predict.top_k": 5}
    (tmp_path / "_job.json").write_text(json.dumps(old_job))
    (tmp_path / "_stream.json").write_text(json.dumps({"data.path": "/in"}))
    # Before lists with classes were read, a plan had no truth.
    plan = {"part": [0, 0, 1], "path": ["/a", "/t", "/b"], "row_group": pa.array([None, 2, None], pa.int32())}
    pq.write_table(pa.table({**plan, "images": [1, 30, 1], "size": [7, 900, 0]}), tmp_path / "_plan.parquet")
    pq.write_table(
        pa.table({"path": ["/a"], "label": ["cat"], "confidence": [0.75], "error": pa.nulls(1, pa.string())}),
        tmp_path / "part-00000.parquet",
    )
    assert predict_output.read_predict_job(output) == JOB
    assert predict_output.read_stream_job(output) == StreamJob("/in")
    assert predict_output.read_plan(output) == [
        [InputSlice("/a", None, 1, 7), InputSlice("/t", 2, 30, 900)],
        [InputSlice("/b", None, 1, 0)],
    ]
    assert list(predict_output.read_rows(str(tmp_path / "part-00000.parquet"))) == [Prediction("/a", "cat", 0.75)]


def old_summary(**changes: object) -> dict[str, object]:
    label = {"images": 2, "mean_confidence": 0.75}
    counts = {"images": 3, "classified": 2, "rejected": 1, "labels": {"cat": label}, "labelled": 2, "correct": 1}
    rejects = [{"path": "/in/x", "error": "empty"}]
    return {"model": "cnn", "output": "/out", **counts, "accuracy": 0.5, "rejects": rejects, "seconds": 0.5, **changes}


def test_summaries_of_the_first_release_are_read(tmp_path: Path) -> None:
    of_predict = old_summary(
        job="predict", images_per_second=4.0, parts=2, parts_done_before=1, model_version="422c94ba",
        **{"data.path": "/in", "predict.top_k": 5},
    )  # fmt: skip
    of_stream = old_summary(job="stream", new_images=3, new_batches=1)
    for content in (of_predict, of_stream):
        (tmp_path / predicted.FILE).write_text(json.dumps(content))
        summary = predicted.read(str(tmp_path))
        assert (summary.images, summary.rejects, summary.accuracy) == (3, [UnreadImage("/in/x", "empty")], 0.5)
        assert (summary.new_files, summary.new_images) == ((1, 2) if content is of_predict else (1, 3))
    # A run's own summary names the seconds of its stages.
    assert predicted.upgraded({**of_predict, "seconds": {"total": 3.0}})["seconds"] == 0.0


def test_what_a_later_release_wrote_or_a_disk_damaged_is_one_line(tmp_path: Path) -> None:
    output = str(tmp_path)
    (tmp_path / "_job.json").write_text('{"schema_version": 4}')
    with pytest.raises(UserError, match=r"_job\.json has version 4\. Use the release that wrote them"):
        predict_output.read_predict_job(output)
    for damaged, words in (
        ("[]", "no JSON object"),
        ('{"schema_version": 2}', "the field model_version"),
        ("{", "damaged"),
    ):
        (tmp_path / "_job.json").write_text(damaged)
        with pytest.raises(UserError, match=words):
            predict_output.read_predict_job(output)
    with pytest.raises(UserError, match=r"_plan\.parquet\. Received: no such file"):
        predict_output.read_plan(output)
    (tmp_path / predicted.FILE).write_text('{"schema_version": 9}')
    with pytest.raises(UserError, match="schema version 9, which is newer"):
        predicted.read(output)
