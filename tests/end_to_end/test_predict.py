"""The predict job on a real local Spark: folders, tables, bad images, resuming."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.config import ClusterConfig, Config, DataConfig, JobConfig
from distributed_cls.config.inference_sections import PredictConfig, StreamConfig
from distributed_cls.contracts import predicted
from distributed_cls.contracts.export import Export
from distributed_cls.errors import UserError
from distributed_cls.inference import batch, broadcast, stream
from distributed_cls.run.progress import Display
from distributed_cls.spark.session import Session
from tests.end_to_end.inference_support import digits_model, write_images

DISPLAY = Display(None)


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
    os.mkfifo(tmp_path / "images" / "pipe.png")
    os.link(images[1], os.fsencode(tmp_path / "images" / "1") + b"/caf\xe9.png")
    summary = batch.predict(lambda: spark, configure(tmp_path / "images", tmp_path / "out"), DISPLAY)
    found = {row["path"]: row for row in rows(tmp_path / "out")}
    assert set(found) == {str(path) for path in images} | {
        str(tmp_path / "images" / "0" / "cut.png"),
        str(tmp_path / "images" / "words.txt"),
        str(tmp_path / "images" / "pipe.png"),
        str(tmp_path / "images" / "1" / "caf\uefe9.png"),
    }
    assert found[str(tmp_path / "images" / "pipe.png")]["error"] == "missing: not a regular file"
    assert found[str(tmp_path / "images" / "1" / "caf\uefe9.png")]["label"] is not None
    assert found[str(tmp_path / "images" / "0" / "cut.png")]["error"].startswith("truncated")
    assert found[str(tmp_path / "images" / "words.txt")]["error"].startswith("not_an_image")
    assert (summary.images, summary.rejected, summary.labelled) == (154, 3, 151)
    correct = sum(row["label"] == row["truth"] for row in found.values() if row["error"] is None)
    assert summary.accuracy == pytest.approx(correct / 151)
    assert summary.accuracy > 0.8
    assert all(len(row["top"]) == 5 for row in found.values() if row["error"] is None)
    assert spark.read.parquet(f"file://{tmp_path / 'out'}").count() == 154
    assert predicted.read(str(tmp_path / "out")) == summary
    assert "tensorflow" not in sys.modules or "keras" in sys.modules  # the job itself does not import it


def test_a_restarted_job_does_only_what_is_missing(spark: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 60)
    config = configure(tmp_path / "images", tmp_path / "out", predict=PredictConfig(part_images=10))
    first = batch.predict(lambda: spark, config, DISPLAY)
    before = rows(tmp_path / "out")
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    assert len(parts) >= 6
    kept = {path: path.stat().st_mtime_ns for path in parts[2:]}
    for path in parts[:2]:
        path.unlink()
    (tmp_path / "out" / ".part-00000.parquet.dead.tmp").write_bytes(b"left by a killed task")
    again = batch.predict(lambda: spark, config, DISPLAY)
    assert (again.files, again.new_files) == (first.files, 2)
    assert {path: path.stat().st_mtime_ns for path in parts[2:]} == kept
    assert rows(tmp_path / "out") == before


def test_what_needs_no_spark_does_not_start_it(spark: Any, tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("Spark is not needed")

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file in it"):
        batch.predict(never, configure(tmp_path / "empty", tmp_path / "out"), DISPLAY)
    config = configure(write_images(tmp_path / "images", 5)[0].parent, tmp_path / "out")
    first = batch.predict(lambda: spark, config, DISPLAY)
    again = batch.predict(never, config, DISPLAY)
    assert (again.files, again.new_files) == (first.files, 0)
    assert (again.images, again.labels) == (first.images, first.labels)


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
    summary = batch.predict(lambda: spark, configure(tmp_path / "tables", tmp_path / "out"), DISPLAY)
    assert (summary.images, summary.rejected, summary.labelled) == (42, 2, 40)
    assert summary.accuracy > 0.8
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == sorted(table["id"].to_pylist())


def test_a_catalog_table(spark: Any, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 12)
    data = [(path.name, bytearray(path.read_bytes())) for path in paths]
    spark.createDataFrame(data, "path string, content binary").createOrReplaceTempView("pictures")
    summary = batch.predict(lambda: spark, configure("table:pictures", tmp_path / "out"), DISPLAY)
    assert summary.classified == 12
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == sorted(path.name for path in paths)
    with pytest.raises(UserError, match="no_such_table"):
        batch.predict(lambda: spark, configure("table:no_such_table", tmp_path / "other"), DISPLAY)


def test_what_the_user_can_put_right(spark: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with pytest.raises(UserError, match="an existing folder, file or URL"):
        batch.predict(lambda: spark, configure(images, tmp_path / "out"), DISPLAY)
    images.mkdir()
    with pytest.raises(UserError, match="no file in it"):
        batch.predict(lambda: spark, configure(images, tmp_path / "out"), DISPLAY)
    write_images(images, 4)
    batch.predict(lambda: spark, configure(images, tmp_path / "out"), DISPLAY)
    write_images(tmp_path / "others", 4)
    with pytest.raises(UserError, match="Choose another output"):
        batch.predict(lambda: spark, configure(tmp_path / "others", tmp_path / "out"), DISPLAY)
    (tmp_path / "table").mkdir()
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "table" / "a.parquet")
    with pytest.raises(UserError, match=r"words \(string\)"):
        batch.predict(lambda: spark, configure(tmp_path / "table", tmp_path / "new"), DISPLAY)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems may not be mounted here")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


def test_a_disk_that_is_full_is_one_line_and_with_room_the_same_command_goes_on(
    spark: Any, tmp_path: Path, small_disk: Path
) -> None:
    write_images(tmp_path / "images", 60)
    config = configure(tmp_path / "images", small_disk / "out", predict=PredictConfig(part_images=5))
    (small_disk / "ballast").write_bytes(bytes(224 * 1024))
    with pytest.raises(UserError, match=r"Received: output=.*/disk/out \(.*No space left on device") as raised:
        batch.predict(lambda: spark, config, DISPLAY)
    assert "\n" not in str(raised.value)
    written = {path.name for path in (small_disk / "out").glob("part-*.parquet")}
    assert 0 < len(written) < 12
    assert all(pq.read_table(small_disk / "out" / name).num_rows for name in written)  # whole or absent
    (small_disk / "ballast").unlink()
    summary = batch.predict(lambda: spark, config, DISPLAY)
    assert (summary.images, summary.new_files) == (60, 12 - len(written))


def stream_config(source: Path, output: Path) -> Config:
    return configure(source, output, stream=StreamConfig(once=True))


def test_a_stream_refuses_what_would_lose_or_repeat_images(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected data\.path to be a folder to watch"):
        stream.run(lambda: spark, stream_config(tmp_path / "in", tmp_path / "out"), DISPLAY)
    assert not (tmp_path / "out").exists()
    write_images(tmp_path / "in", 4)
    first = stream.run(lambda: spark, stream_config(tmp_path / "in", tmp_path / "out"), DISPLAY)
    again = stream.run(lambda: spark, stream_config(tmp_path / "in", tmp_path / "out"), DISPLAY)
    assert (first.new_images, again.new_images, again.images) == (4, 0, 4)
    write_images(tmp_path / "other", 1)
    with pytest.raises(UserError, match=r"to go on with data\.path"):
        stream.run(lambda: spark, stream_config(tmp_path / "other", tmp_path / "out"), DISPLAY)
    shutil.rmtree(tmp_path / "out" / "_checkpoint")
    with pytest.raises(UserError, match="every image would be classified again"):
        stream.run(lambda: spark, stream_config(tmp_path / "in", tmp_path / "out"), DISPLAY)
    (tmp_path / "out" / "_stream.json").unlink()
    with pytest.raises(UserError, match="Choose another output"):
        stream.run(lambda: spark, stream_config(tmp_path / "in", tmp_path / "out"), DISPLAY)


def test_the_model_travels_to_executors_that_do_not_see_it(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", 4)
    hidden = tmp_path / "run"
    shutil.copytree(digits_model(), hidden)
    config = configure(tmp_path / "images", tmp_path / "out")
    config.model_dir = str(hidden)
    monkeypatch.setattr(broadcast, "on_this_machine", lambda _: False)

    def send_and_hide(session: Any, export: Export) -> Export:
        sent = broadcast.ship_to_executors(session, export)
        shutil.rmtree(hidden)
        return sent

    monkeypatch.setattr(batch, "ship_to_executors", send_and_hide)
    assert batch.predict(lambda: spark, config, DISPLAY).classified == 4
