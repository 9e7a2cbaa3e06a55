"""The predict job on a real local Spark: folders, tables, bad images, resuming; and every route giving one answer."""

import base64
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.config import ClusterConfig, Config, DataConfig, JobConfig, PredictConfig, StreamConfig
from distributed_cls.errors import UserError
from distributed_cls.inference import batch, model_copy, stream
from distributed_cls.inference.artefact import Export
from launch.session import Session
from tests.end_to_end.inference_support import digits_model, encode, serving, write_images


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    session = Session(ClusterConfig(master="local[2]", workers=1), tmp_path_factory.mktemp("spark"))
    yield session.spark
    session.stop()


def configure(source: Path | str, output: Path, **settings: Any) -> Config:
    return Config(
        job=JobConfig(name="predict"),
        data=DataConfig(source="folder", path=str(source)),
        model_dir=str(digits_model()),
        output=str(output),
        **settings,
    )


def rows(output: Path, pattern: str = "part-*.parquet") -> list[dict[str, Any]]:
    return [row for path in sorted(output.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def test_a_folder_with_bad_images_and_known_classes(spark: Any, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 150, by_class=True)
    (tmp_path / "images" / "0" / "cut.png").write_bytes(images[0].read_bytes()[:70])
    (tmp_path / "images" / "words.txt").write_text("no picture")
    (tmp_path / "images" / ".hidden").write_text("not looked at")
    told = batch.predict(spark, configure(tmp_path / "images", tmp_path / "out"))
    found = {row["path"]: row for row in rows(tmp_path / "out")}
    assert set(found) == {str(path) for path in images} | {
        str(tmp_path / "images" / "0" / "cut.png"),
        str(tmp_path / "images" / "words.txt"),
    }
    assert found[str(tmp_path / "images" / "0" / "cut.png")]["error"].startswith("truncated")
    assert found[str(tmp_path / "images" / "words.txt")]["error"].startswith("not_an_image")
    assert (told["images"], told["rejected"], told["labelled"]) == (152, 2, 150)
    correct = sum(row["label"] == row["truth"] for row in found.values() if row["error"] is None)
    assert told["accuracy"] == pytest.approx(correct / 150)
    assert told["accuracy"] > 0.8
    assert all(len(row["top"]) == 5 for row in found.values() if row["error"] is None)
    assert spark.read.parquet(f"file://{tmp_path / 'out'}").count() == 152
    assert json.loads((tmp_path / "out" / "_summary.json").read_text()) == told
    assert "tensorflow" not in sys.modules or "keras" in sys.modules  # the job itself does not import it


def test_a_restarted_job_does_only_what_is_missing(spark: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 60)
    config = configure(tmp_path / "images", tmp_path / "out", predict=PredictConfig(part_images=10))
    first = batch.predict(spark, config)
    before = rows(tmp_path / "out")
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    assert len(parts) >= 6
    kept = {path: path.stat().st_mtime_ns for path in parts[2:]}
    for path in parts[:2]:
        path.unlink()
    (tmp_path / "out" / ".part-00000.parquet.dead.tmp").write_bytes(b"left by a killed task")
    again = batch.predict(spark, config)
    assert again["parts_done_before"] == first["parts"] - 2
    assert {path: path.stat().st_mtime_ns for path in parts[2:]} == kept
    assert rows(tmp_path / "out") == before


def test_parquet_of_bytes_with_labels(spark: Any, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 40, by_class=True)
    table = pa.table(
        {
            "image": [path.read_bytes() for path in paths] + [None, b"x"],
            "id": [f"image {index}" for index in range(42)],
            "label": [int(path.parent.name) for path in paths] + [0, 0],
        }
    )
    (tmp_path / "tables").mkdir()
    pq.write_table(table, tmp_path / "tables" / "a.parquet", row_group_size=9)
    told = batch.predict(spark, configure(tmp_path / "tables", tmp_path / "out"))
    assert (told["images"], told["rejected"], told["labelled"]) == (42, 2, 40)
    assert told["accuracy"] > 0.8
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == sorted(table["id"].to_pylist())


def test_a_catalog_table(spark: Any, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 12)
    data = [(path.name, bytearray(path.read_bytes())) for path in paths]
    spark.createDataFrame(data, "path string, content binary").createOrReplaceTempView("pictures")
    told = batch.predict(spark, configure("table:pictures", tmp_path / "out"))
    assert told["classified"] == 12
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == sorted(path.name for path in paths)
    with pytest.raises(UserError, match="no_such_table"):
        batch.predict(spark, configure("table:no_such_table", tmp_path / "other"))


def test_what_the_user_can_put_right(spark: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with pytest.raises(UserError, match="no such file or folder"):
        batch.predict(spark, configure(images, tmp_path / "out"))
    images.mkdir()
    with pytest.raises(UserError, match="an empty folder"):
        batch.predict(spark, configure(images, tmp_path / "out"))
    write_images(images, 4)
    batch.predict(spark, configure(images, tmp_path / "out"))
    write_images(tmp_path / "others", 4)
    with pytest.raises(UserError, match="Choose another output"):
        batch.predict(spark, configure(tmp_path / "others", tmp_path / "out"))
    (tmp_path / "table").mkdir()
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "table" / "a.parquet")
    with pytest.raises(UserError, match=r"words \(string\)"):
        batch.predict(spark, configure(tmp_path / "table", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def stream_config(source: Path, output: Path) -> Config:
    return configure(source, output, stream=StreamConfig(once=True))


def test_a_stream_refuses_what_would_lose_or_repeat_images(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected data\.path to be a folder to watch"):
        stream.run(spark, stream_config(tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    write_images(tmp_path / "in", 4)
    first = stream.run(spark, stream_config(tmp_path / "in", tmp_path / "out"))
    again = stream.run(spark, stream_config(tmp_path / "in", tmp_path / "out"))
    assert (first["new_images"], again["new_images"], again["images"]) == (4, 0, 4)
    write_images(tmp_path / "other", 1)
    with pytest.raises(UserError, match=r"to go on with data\.path"):
        stream.run(spark, stream_config(tmp_path / "other", tmp_path / "out"))
    shutil.rmtree(tmp_path / "out" / "_checkpoint")
    with pytest.raises(UserError, match="every image would be classified again"):
        stream.run(spark, stream_config(tmp_path / "in", tmp_path / "out"))
    (tmp_path / "out" / "_stream.json").unlink()
    with pytest.raises(UserError, match="Choose another output"):
        stream.run(spark, stream_config(tmp_path / "in", tmp_path / "out"))


def test_the_model_travels_to_executors_that_do_not_see_it(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", 4)
    hidden = tmp_path / "run"
    shutil.copytree(digits_model(), hidden)
    config = configure(tmp_path / "images", tmp_path / "out")
    config.model_dir = str(hidden)
    monkeypatch.setattr(model_copy, "_runs_here", lambda _: False)

    def send_and_hide(session: Any, export: Export) -> Export:
        sent = model_copy.travelling(session, export)
        shutil.rmtree(hidden)
        return sent

    monkeypatch.setattr(batch, "travelling", send_and_hide)
    assert batch.predict(spark, config)["classified"] == 4


def test_every_route_gives_the_same_answer(spark: Any, tmp_path: Path) -> None:
    """200 images through batch, stream, both HTTP ways, the SavedModel's own decoding and the plain Keras model."""
    paths = write_images(tmp_path / "images", 200)
    # Not only images of the model's own size: photos of other shapes go through the whole resizing.
    chance = np.random.default_rng(0)
    for index, path in enumerate(paths[100:]):
        shape = (int(chance.integers(20, 300)), int(chance.integers(20, 300)), 3)
        coarse = chance.integers(0, 256, (shape[0] // 10 + 1, shape[1] // 10 + 1, 3), dtype=np.uint8)
        photo = np.kron(coarse, np.ones((10, 10, 1), np.uint8))[: shape[0], : shape[1]]
        path.write_bytes(encode(photo, (".png", ".jpg")[index % 2]))
    every = PredictConfig(top_k=10)
    batch.predict(spark, configure(tmp_path / "images", tmp_path / "batch", predict=every))
    config = configure(
        tmp_path / "images", tmp_path / "stream", predict=every, stream=StreamConfig(once=True, batch_images=64)
    )
    stream.run(spark, config)
    routes = {
        "batch": by_path(rows(tmp_path / "batch")),
        "stream": by_path(rows(tmp_path / "stream", "batch-*.parquet")),
        **over_http(paths),
        **in_this_process(paths),
    }
    expected = routes.pop("keras")
    for route, answers in routes.items():
        assert answers.keys() == expected.keys(), route
        for path, probabilities in answers.items():
            assert probabilities == pytest.approx(expected[path], abs=1e-5), (route, path)
            assert np.argmax(probabilities) == np.argmax(expected[path]), (route, path)


def by_path(table: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Each row's probabilities in the classes' order; every class is among its top."""
    answers = {}
    for row in table:
        shares = {guess["label"]: guess["confidence"] for guess in row["top"]}
        answers[row["path"]] = np.array([shares[str(digit)] for digit in range(10)])
    return answers


def over_http(paths: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    form: dict[str, np.ndarray] = {}
    encoded: dict[str, np.ndarray] = {}
    with serving(digits_model()) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        for start in range(0, len(paths), 20):
            chunk = paths[start : start + 20]
            files = [("file", (path.name, path.read_bytes())) for path in chunk]
            results = client.post("/classify?top=10", files=files).json()["results"]
            form |= by_path([{**result, "path": str(path)} for result, path in zip(results, chunk, strict=True)])
            body = {"instances": [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in chunk]}
            predictions = client.post("/v1/models/cnn:predict", json=body).json()["predictions"]
            encoded |= {str(path): np.array(row) for path, row in zip(chunk, predictions, strict=True)}
    return {"form": form, "base64": encoded}


def in_this_process(paths: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    """The SavedModel from bytes, and the Keras model on pixels as the training and its evaluation read them."""
    import keras
    import tensorflow as tf

    from distributed_cls.dataset.decode import Prepared, Spec, prepare_image

    folder = digits_model() / "model"
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    data = [path.read_bytes() for path in paths]
    from_bytes = signature(image_bytes=tf.constant(data))["probabilities"].numpy()
    prepared = [prepare_image(each, Spec(32)) for each in data]
    pixels = np.stack([each.rgb for each in prepared if isinstance(each, Prepared)])
    from_pixels = keras.models.load_model(folder / "model.keras").predict(pixels.astype(np.float32), verbose=0)
    names = [str(path) for path in paths]
    return {
        "saved_model": dict(zip(names, from_bytes, strict=True)),
        "keras": dict(zip(names, from_pixels, strict=True)),
    }
