"""Jobs from another program, in the Spark session that the program has, on its DataFrames."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from xxhash import xxh3_64_intdigest

from distributed_cls import api
from distributed_cls.config import Config, DataConfig
from distributed_cls.dataset import sources
from distributed_cls.dataset.sources import dataframe
from distributed_cls.errors import UserError
from distributed_cls.inference.transformer import ImageClassifier
from distributed_cls.spark.java import java_home
from launch.program import run
from tests.end_to_end.inference_support import ENVIRONMENT
from tests.patience import PATIENCE
from tests.spark.prepare_support import encoded, picture, small_spark

ROOT = Path(__file__).resolve().parents[2]


def test_a_program_trains_in_its_own_session_which_stays(tmp_path: Path) -> None:
    given = ["model=dense", "train.epochs=1", f"dataset_root={tmp_path}/datasets", f"hydra.run.dir={tmp_path}/run"]
    with small_spark() as spark:
        summary = run(*given)
        assert spark.range(3).count() == 3
    assert summary.train is not None and summary.train.epochs == 1
    assert summary.test is not None and summary.test.examples == 268
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "model" / "model.json").is_file()
    assert summary.command == " ".join(["python -m launch", *given])


# What the page has made, compared with the network itself in plain Keras, on the pixels themselves.
_COMPARED = """
import json
import keras

network = keras.models.load_model("runs/frame/model/model.keras")
pixels = np.stack(pictures).astype(np.float32)[..., None]
found = [row.label for row in answered.select("prediction.label").collect()]
damaged = spark.createDataFrame([(b"no image", 1), (None, 2)], "image binary, n int")
damaged = classifier.transform(damaged).orderBy("n").select("prediction.*").collect()
print(json.dumps({
    "same": found == [str(number) for number in network.predict(pixels, verbose=0).argmax(1)],
    "right": float(np.mean(np.array(found) == digits.target.astype(str))),
    "columns": answered.columns,
    "top": len(answered.first().prediction.top),
    "again": [row.label for row in again.select("prediction.label").collect()] == found[:10],
    "errors": [row.error for row in damaged],
    "labels": [row.label for row in damaged],
    "counts": summary.dataset.counts,
    "alive": spark.range(3).count(),
    "master": summary.config["cluster"]["master"],
}))
"""


def test_the_example_of_the_page_trains_on_a_frame_and_answers_as_plain_keras(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    program = "\n".join([*re.findall(r"```python\n(.*?)```", page, re.DOTALL), _COMPARED])
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "JAVA_HOME": java_home()},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["same"] and told["again"] and told["right"] > 0.9
    assert told["columns"] == ["image", "label", "prediction"] and told["top"] == 3
    assert told["labels"] == [None, None] and all(told["errors"])
    assert sum(sum(classes.values()) for classes in told["counts"].values()) == 1797
    assert told["alive"] == 3 and told["master"] == "local[2]"
    assert not list((tmp_path / "datasets").glob(".frames/*")), "the saved rows are gone"


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with small_spark() as session:
        yield session


_SETTINGS = DataConfig(source="dataframe", name="frame")


def _rows(count: int = 6) -> list[tuple[bytes, str, str]]:
    return [(encoded(picture(number)), f"class {number % 2}", "train") for number in range(count)]


def _listed(spark: SparkSession, rows: list[tuple[bytes, str, str]], folder: Path) -> sources.Listing:
    frame = spark.createDataFrame(rows, "image binary, label string, split string").repartition(1)
    dataframe.save(frame, _SETTINGS, str(folder))
    return dataframe.list_frame(replace(_SETTINGS, path=str(folder)), "")


def test_the_same_rows_are_the_same_data_wherever_they_were_saved(spark: SparkSession, tmp_path: Path) -> None:
    first, again = (_listed(spark, _rows(), tmp_path / name) for name in ("first", "again"))
    assert first.digest() == again.digest() and first.bytes_column == "image"
    assert sorted(first.table["label"].to_pylist()) == ["class 0"] * 3 + ["class 1"] * 3
    assert first.table["split"].to_pylist() == [0] * 6
    assert sorted(first.table["size"].to_pylist()) == sorted(len(row[0]) for row in _rows())
    other = _rows()
    other[3] = (other[2][0], *other[3][1:])
    assert _listed(spark, other, tmp_path / "other").digest() != first.digest()
    relabelled = [*_rows()[:-1], (_rows()[-1][0], "class 0", "train")]
    assert _listed(spark, relabelled, tmp_path / "relabelled").digest() != first.digest()


def test_a_stamp_is_a_hash_of_the_row_and_a_row_without_an_image_has_one(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"abc", None]), "label": ["x", None]})
    found = dataframe._described(table, "image").to_pydict()
    expected = xxh3_64_intdigest(b"abc", seed=xxh3_64_intdigest(b"('x',)"))
    assert np.int64(found["_stamp"][0]).view(np.uint64) == expected
    assert found["_size"] == [3, 0]


def test_a_frame_of_paths_is_listed_as_a_table(spark: SparkSession, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for number, path in enumerate(paths):
        cv2.imwrite(path, picture(number))
    frame = spark.createDataFrame([(path, n % 2) for n, path in enumerate(paths)], "path string, label int")
    dataframe.save(frame, _SETTINGS, str(tmp_path / "saved"))
    listing = dataframe.list_frame(replace(_SETTINGS, path=str(tmp_path / "saved")), "")
    assert sorted(listing.table["path"].to_pylist()) == paths and listing.classes() == ["0", "1"]
    assert all(stamp > 0 for stamp in listing.table["stamp"].to_pylist())


def test_what_is_no_frame_of_images_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected a DataFrame with encoded images in the column image \(binary\)"):
        dataframe.save(spark.range(3), _SETTINGS, str(tmp_path / "a"))
    unlabelled = spark.createDataFrame([(b"x",)], "image binary")
    with pytest.raises(UserError, match=r"Expected the column label in the DataFrame\. Received: image\. Set"):
        dataframe.save(unlabelled, _SETTINGS, str(tmp_path / "b"))
    with pytest.raises(UserError, match=r"Received: data\.source=dataframe without one\. Call launch\.program\.run"):
        sources.list_images(_SETTINGS, str(tmp_path))
    with pytest.raises(UserError, match=r"Received: images, and data\.source=digits\. Give both, or neither\."):
        api.run(Config(), tmp_path / "run", images=unlabelled)
    with pytest.raises(UserError, match=r"Received: no such column\. Set inputCol, or convert the column\."):
        ImageClassifier(modelDir=str(tmp_path)).transform(spark.range(3))
