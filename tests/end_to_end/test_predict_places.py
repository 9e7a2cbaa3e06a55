"""Predicting with the launcher where names and places are not plain: into a bucket, and in the locale C."""

import os
from pathlib import Path

import pyarrow.parquet as pq

from distributed_cls.contracts import predict_output
from tests.end_to_end.conftest import Launcher
from tests.end_to_end.inference_support import digits_model, write_images
from tests.unit.storage.moto_bucket import NAME, URL, bucket


def test_the_answers_come_into_a_new_folder_of_a_bucket(tmp_path: Path, datasets: Path) -> None:
    images = write_images(tmp_path / "images", 12)
    output = f"{URL}/new/answers"
    with bucket() as client:
        launch = Launcher(tmp_path, datasets, {name: os.environ[name] for name in os.environ if "AWS_" in name})
        command = ("job=predict", f"model_dir={digits_model()}", f"data.path={tmp_path / 'images'}", f"output={output}")
        command = (*command, "predict.part_images=4")
        first = launch(*command)
        assert first.code == 0, first.output
        listed = client.list_objects_v2(Bucket=NAME, Prefix="new/answers/part-")["Contents"]
        parts = [f"{URL}/{entry['Key']}" for entry in listed]
        assert sorted(row.path for part in parts for row in predict_output.read_rows(part)) == sorted(map(str, images))
        client.delete_object(Bucket=NAME, Key=listed[0]["Key"])
        again = launch(*command)
        assert again.code == 0, again.output
        assert f"{len(parts) - 1} of {len(parts)} parts are there already" in " ".join(again.output.split())
        assert sum(1 for part in parts for _ in predict_output.read_rows(part)) == 12


def test_every_name_is_classified_in_the_locale_c(tmp_path: Path, datasets: Path) -> None:
    """Java takes each letter beyond ASCII for a question mark there, in the working folder's name as well."""
    folder, inbox = tmp_path / "Müller", tmp_path / "Eingänge 車"
    folder.mkdir()
    names = ["Ü.png", "車.png", "plain.png"]
    for image, name in zip(write_images(inbox, 3), names, strict=True):
        image.rename(inbox / name)
    launch = Launcher(folder, datasets, {"LC_ALL": "C", "LANG": "C"})
    command = ("job=stream", "stream.once=true", f"model_dir={digits_model()}", f"data.path='{inbox}'")
    ended = launch(*command, f"output='{folder / 'out'}'")
    assert ended.code == 0, ended.output
    rows = [row for file in (folder / "out").glob("batch-*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {row["path"]: row["error"] for row in rows} == dict.fromkeys(str(inbox / name) for name in names)
