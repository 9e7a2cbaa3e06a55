"""Predicting into a bucket, and from one that may not be read. No Spark: what its tasks write comes from elsewhere."""

import pytest

from distributed_cls import storage
from distributed_cls.contracts import predict_output, predicted
from distributed_cls.contracts.predict_output import InputSlice, Prediction, PredictJob
from distributed_cls.contracts.predicted import PredictionSummary
from distributed_cls.errors import UserError
from distributed_cls.inference import prediction_summary, slices
from tests.unit.dataset import object_store
from tests.unit.storage.moto_bucket import NAME, URL, bucket


def test_a_new_folder_of_a_bucket_takes_plan_parts_and_summary() -> None:
    output = f"{URL}/new/results"
    job, parts = PredictJob("1", "/in", 5), [[InputSlice("/a", None, 1, 3)], [InputSlice("/b", None, 1, 3)]]
    with bucket() as tasks:
        assert slices.load(output, job) is None
        slices.save(output, parts, job)
        assert storage.names(output) == ["_job.json", "_plan.parquet"]
        for number, path in enumerate("ab"):
            rows = predict_output.to_parquet([Prediction(f"/{path}", "cat", 0.5, (("cat", 0.5),))])
            tasks.put_object(Bucket=NAME, Key=f"new/results/part-{number}", Body=rows)
        summary = PredictionSummary("predict", "cnn", "1", "/in", output)
        summary = prediction_summary.counted(summary, ["part-0", "part-1"])
        predicted.write(output, summary)
        assert (summary.images, summary.files) == (2, 2)
        assert predicted.read(output) == summary
        assert slices.load(output, job) == parts
        assert "_summary.json" in storage.names(output)


def test_a_bucket_that_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    server = object_store.serve([])
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    source = f"s3://{object_store.BUCKET}/secret/pictures"
    type(storage.filesystem(source)[0]).clear_instance_cache()
    with pytest.raises(UserError, match=r"data\.path=.*Check the credentials") as raised:
        storage.check_readable(source, "data.path")
    assert "\n" not in str(raised.value)
    server.shutdown()
    server.server_close()
