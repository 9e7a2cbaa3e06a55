"""Preparation as a whole on a small Spark: what goes in, what comes out, and what happens the second time."""

import errno
import io
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
from prepare_support import (
    CLASSES,
    contents,
    encoded,
    folder_config,
    image_folder,
    picture,
    records,
    rejects,
    small_spark,
    splits,
    write_table,
)
from pyspark.sql import SparkSession

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest
from distributed_cls.dataset import class_table, prepare, verify, work
from distributed_cls.errors import UserError
from distributed_cls.spark import stage


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with small_spark() as session:
        yield session


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("pictures"))


def test_every_kept_image_is_in_one_split_and_tensorflow_reads_it(
    spark: SparkSession, pictures: Path, tmp_path: Path
) -> None:
    import tensorflow as tf

    seen: list[tuple[int, int]] = []
    dataset = prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path), lambda *p: seen.append(p))
    content = dataset.manifest
    assert not dataset.reused and dataset.path.startswith(str(tmp_path))
    assert content.classes == sorted(CLASSES)
    assert content.counts == {
        split: dict.fromkeys(sorted(CLASSES), count) for split, count in (("train", 14), ("val", 3), ("test", 3))
    }
    assert seen[-1] == (60, 60)
    assert {split: len(shards) for split, shards in content.shards.items()} == dict.fromkeys(manifest.SPLITS, 1)
    features = {"image": tf.string, "label": tf.int64, "key": tf.string}
    count = 0
    for split, shards in content.shards.items():
        for shard in shards:
            for record in tf.data.TFRecordDataset(f"{dataset.path}/{shard.file}"):
                example = tf.io.parse_single_example(
                    record, {name: tf.io.FixedLenFeature([], kind) for name, kind in features.items()}
                )
                assert records(dataset.path)[example["key"].numpy()][:2] == (split, example["label"].numpy())
                image = tf.io.decode_png(example["image"]).numpy()
                assert image.shape == (16, 16, 3) and work.content_key(image) == example["key"].numpy()
                count += 1
    assert count == 60 == len(splits(dataset.path))
    assert not list(tmp_path.glob(".*")), "temporary folders are gone"


def test_the_second_run_uses_the_first(
    spark: SparkSession, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))
    again = prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))
    assert again.reused and again.path == first.path and "nothing has changed" in caplog.text
    other = prepare.prepare(lambda: spark, folder_config(pictures, split_salt="x"), str(tmp_path))
    assert not other.reused and other.path != first.path
    assert records(other.path).keys() == records(first.path).keys()
    assert splits(other.path) != splits(first.path)


def test_the_number_of_tasks_changes_no_record(
    spark: SparkSession, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for tasks in (1, 2, 4):
        monkeypatch.setattr(type(spark.sparkContext), "defaultParallelism", tasks)
        dataset = prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path / str(tasks)))
        found.append(contents(dataset.path))
    assert found[0] == found[1] == found[2], "byte for byte"


def test_a_wish_for_shards_is_kept_and_one_for_too_many_is_met_once(
    spark: SparkSession, pictures: Path, tmp_path: Path
) -> None:
    for wanted, written in ((4, 4), (64, 42)):
        first = prepare.prepare(lambda: spark, folder_config(pictures, shards=wanted), str(tmp_path))
        again = prepare.prepare(lambda: spark, folder_config(pictures, shards=wanted), str(tmp_path))
        assert len(first.manifest.shards["train"]) == written
        assert again.reused and again.path == first.path
    assert prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path)).reused, "any number will do"


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_encodings(spark: SparkSession, pictures: Path, tmp_path: Path, encoding: str) -> None:
    dataset = prepare.prepare(lambda: spark, folder_config(pictures, encoding=encoding), str(tmp_path))
    _, _, image = next(iter(records(dataset.path).values()))
    assert len(image) == 16 * 16 * 3 if encoding == "raw" else image[:2] == b"\xff\xd8"


def test_bad_images_become_rejects(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = image_folder(tmp_path / "in")
    (folder / "cat" / "cut.jpg").write_bytes(encoded(picture(5), ".jpg")[:600])
    (folder / "cat" / "empty.png").write_bytes(b"")
    (folder / "bird" / "notes.txt").write_text("no image")
    (folder / "bird" / "link.png").symlink_to(folder / "nowhere.png")
    (folder / "bird" / ".hidden").write_text("not even listed")
    (folder / "cat" / "loop").symlink_to(folder)
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.raises(UserError, match=r"at most 5.0%.*5 of 65.*Repair"):
        prepare.prepare(lambda: spark, folder_config(folder), str(tmp_path / "out"))
    dataset = prepare.prepare(lambda: spark, folder_config(folder, max_reject_fraction=0.1), str(tmp_path / "out"))
    assert rejects(dataset.path) == {
        "cat/cut.jpg": "truncated",
        "cat/empty.png": "empty",
        "bird/notes.txt": "not_an_image",
        "bird/link.png": "missing",
        "cat/pipe.png": "missing",
    }
    assert dataset.manifest.rejected == 5 and len(records(dataset.path)) == 60
    assert "5 images are left out" in caplog.text and "cat/cut.jpg (truncated)" in caplog.text


def test_duplicates_conflicts_and_near_duplicates(spark: SparkSession, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "in", per_class=24)
    (folder / "cat" / "again.png").write_bytes((folder / "cat" / "0002.png").read_bytes())
    (folder / "dög 狗" / "stray.png").write_bytes((folder / "cat" / "0004.png").read_bytes())
    for number in range(0, 24, 2):  # a copy of every second picture, compressed hard and brighter
        image = np.clip(picture(number).astype(int) * 0.9 + 12, 0, 255).astype(np.uint8)
        (folder / "bird" / f"{number:04d}-copy.jpg").write_bytes(encoded(image, ".jpg", quality=60))
    dataset = prepare.prepare(lambda: spark, folder_config(folder, image_size=32), str(tmp_path / "out"))
    assert dataset.manifest.duplicates == 1
    assert rejects(dataset.path) == dict.fromkeys(["cat/0004.png", "dög 狗/stray.png"], "conflicting_labels")
    details = index.read(f"{dataset.path}/rejects.parquet")["detail"].to_pylist()
    assert all("cat and dög 狗" in detail for detail in details)
    where = splits(dataset.path)
    for number in range(0, 24, 2):
        assert where[f"bird/{number:04d}.png"] == where[f"bird/{number:04d}-copy.jpg"]
    assert [dataset.manifest.counts[split]["bird"] for split in manifest.SPLITS] == pytest.approx([25, 5, 6], abs=2)


def test_near_duplicates_are_the_same_by_tasks_and_on_the_driver(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(tmp_path / "in")
    for number in range(0, 20, 3):  # copies, and a copy of each copy
        for quality, light in ((60, 12), (40, 20)):
            image = np.clip(picture(number).astype(int) * 0.9 + light, 0, 255).astype(np.uint8)
            (folder / "bird" / f"{number:04d}-{quality}.jpg").write_bytes(encoded(image, ".jpg", quality=quality))
    config = folder_config(folder, image_size=32)
    stages: list[str] = []
    groups: list[list[int]] = []
    real_run, real_search = stage.run, prepare.Preparation._near_duplicates

    def run(spark: SparkSession, name: str, task: Any, items: list[Any]) -> list[Any]:
        stages.append(name)
        return real_run(spark, name, task, items)

    def search(*arguments: Any) -> np.ndarray:
        found = real_search(*arguments)
        groups.append(found.tolist())
        return found

    monkeypatch.setattr(stage, "run", run)
    monkeypatch.setattr(prepare.Preparation, "_near_duplicates", search)
    here = prepare.prepare(lambda: spark, config, str(tmp_path / "driver"))
    assert "prepare t: near duplicates" not in stages
    monkeypatch.setattr(prepare, "_HASHES_WORTH_A_STAGE", 10)
    there = prepare.prepare(lambda: spark, config, str(tmp_path / "tasks"))
    assert "prepare t: near duplicates" in stages
    assert groups[0] == groups[1] and len(set(groups[0])) <= len(groups[0]) - 7
    assert splits(there.path) == splits(here.path) and contents(there.path) == contents(here.path)
    assert not list((tmp_path / "tasks").glob(".*")), "the file with the hashes is gone"


def test_added_changed_and_removed_images(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, root = image_folder(tmp_path / "in"), str(tmp_path / "out")
    first = prepare.prepare(lambda: spark, folder_config(folder), root)
    image_folder(folder, per_class=10, first=20)
    (folder / "cat" / "0000.png").unlink()
    (folder / "cat" / "0002.png").write_bytes(encoded(picture(77_777)))
    caplog.clear()
    second = prepare.prepare(lambda: spark, folder_config(folder), root)
    assert "Decoding 31 of 89 images" in caplog.text
    before, after = splits(first.path), splits(second.path)
    assert {name: split for name, split in before.items() if name in after and name != "cat/0002.png"}.items() <= (
        after.items()
    ), "nothing that stayed has moved"
    for name in sorted(CLASSES):
        counts = [second.manifest.counts[split][name] for split in manifest.SPLITS]
        assert counts == pytest.approx([sum(counts) * part for part in (0.7, 0.15, 0.15)], abs=1.5)
    fresh = prepare.prepare(lambda: spark, folder_config(folder), str(tmp_path / "fresh"))
    assert {k: v[1:] for k, v in records(fresh.path).items()} == {k: v[1:] for k, v in records(second.path).items()}
    assert (second.manifest.generation, second.manifest.base) == (2, first.manifest.fingerprint)
    assert prepare.prepare(lambda: spark, folder_config(folder), root).reused


def test_a_new_image_between_two_splits_is_left_out(spark: SparkSession, tmp_path: Path) -> None:
    """It resembles a training and a test image that do not resemble each other: keeping it would leak."""
    folder, root = image_folder(tmp_path / "in"), str(tmp_path / "out")
    config = folder_config(folder, near_duplicates=24, image_size=32)
    first = prepare.prepare(lambda: spark, config, root)
    table = index.read(f"{first.path}/{index.FILE}")
    assert table.num_rows == 60
    import pyarrow as pa

    from distributed_cls.contracts.rejects import LEAK
    from distributed_cls.dataset import curate

    earlier = pa.table({"key": [b"a" * 16, b"b" * 16], "split": [0, 2]})
    rows = pa.table(
        {
            "path": ["a", "b", "new"],
            "row": [-1] * 3,
            "label": ["x"] * 3,
            "split": pa.array([-1] * 3, pa.int8()),
            "reason": pa.array([None] * 3, pa.string()),
            "detail": pa.array([None] * 3, pa.string()),
            "key": pa.array([b"a" * 16, b"b" * 16, b"n" * 16], pa.binary(16)),
        }
    )
    decided, groups = curate.drop_leaks(rows, np.zeros(3, int), earlier)
    assert decided["reason"].to_pylist() == [None, None, LEAK] and len(groups) == 2


def test_an_older_generation_may_be_deleted(spark: SparkSession, tmp_path: Path) -> None:
    folder, root = image_folder(tmp_path / "in"), str(tmp_path / "out")
    first = prepare.prepare(lambda: spark, folder_config(folder), root)
    image_folder(folder, per_class=4, first=20)
    second = prepare.prepare(lambda: spark, folder_config(folder), root)
    shutil.rmtree(first.path)
    assert verify.verify(second.path).records == 72
    assert prepare.prepare(lambda: spark, folder_config(folder), root).path == second.path
    image_folder(folder, per_class=4, first=24)
    third = prepare.prepare(lambda: spark, folder_config(folder), root)
    assert (third.manifest.generation, verify.verify(third.path).records) == (3, 84)
    assert splits(second.path).items() <= splits(third.path).items(), "nothing has moved"


@pytest.mark.parametrize("inside", [True, False])
def test_a_folder_that_is_split_already(spark: SparkSession, tmp_path: Path, inside: bool) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for name in ("a", "b"):
            folder = tmp_path / "in" / (f"{name}/{split}" if inside else f"{split}/{name}")
            folder.mkdir(parents=True)
            for image in range(4):
                seed = 100 * number + image + 1000 * (name == "b")
                (folder / f"{image}.png").write_bytes(encoded(picture(seed)))
    leak = tmp_path / "in" / ("a/train" if inside else "train/a") / "leak.jpg"
    leak.write_bytes(encoded(picture(201), ".jpg", quality=80))  # nearly test image 1 of class a
    config = folder_config(tmp_path / "in", source="split_folder", image_size=32)
    dataset = prepare.prepare(lambda: spark, config, str(tmp_path / "out"))
    assert all(split in path.split("/") for path, split in splits(dataset.path).items())
    assert dataset.manifest.counts == {split: {"a": 4, "b": 4} for split in manifest.SPLITS}
    assert list(rejects(dataset.path).values()) == ["near_duplicate_in_another_split"]


def test_a_missing_val_split_is_taken_out_of_train(spark: SparkSession, tmp_path: Path) -> None:
    image_folder(tmp_path / "in" / "train", per_class=34)
    image_folder(tmp_path / "in" / "test", per_class=5, first=50)
    config = folder_config(tmp_path / "in", source="split_folder")
    counts = prepare.prepare(lambda: spark, config, str(tmp_path / "out")).manifest.counts
    assert {split: counts[split]["cat"] for split in counts} == {"train": 28, "val": 6, "test": 5}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_paths(spark: SparkSession, pictures: Path, tmp_path: Path, suffix: str) -> None:
    paths = sorted(str(path) for path in pictures.rglob("*.*"))
    table = write_table(
        pictures.parent / f"{tmp_path.name}{suffix}",
        file=[*paths[:20], *(os.path.relpath(path, pictures.parent) for path in paths[20:]), "gone.png"],
        kind=[f"{number % 2:03d}" for number in range(61)],
    )
    config = folder_config(table, source="table", path_column="file", label_column="kind")
    dataset = prepare.prepare(lambda: spark, config, str(tmp_path / "out"))
    assert dataset.manifest.classes == ["000", "001"] and len(records(dataset.path)) == 60
    assert rejects(dataset.path) == {"gone.png": "missing"}


def test_a_table_with_splits(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    paths = sorted(str(path) for path in pictures.rglob("*.*"))
    given = [("train", "train", "valid", "TEST")[number % 4] for number in range(60)]
    table = write_table(tmp_path / "t.csv", path=paths, label=[str(n // 4 % 2) for n in range(60)], split=given)
    dataset = prepare.prepare(lambda: spark, folder_config(table, source="table"), str(tmp_path / "out"))
    expected = {"train": "train", "valid": "val", "TEST": "test"}
    assert splits(dataset.path) == {path: expected[name] for path, name in zip(paths, given, strict=True)}


def test_parquet_tables_that_hold_the_images(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part in range(2):
        images: list[Any] = [encoded(picture(part * 100 + number)) for number in range(30)]
        images[7] = b"broken"
        write_table(tmp_path / "in" / f"{part}.parquet", image=images, label=[number % 2 for number in range(30)])
    config = folder_config(tmp_path / "in", source="parquet")
    dataset = prepare.prepare(lambda: spark, config, str(tmp_path / "out"))
    assert dataset.manifest.classes == ["0", "1"] and len(records(dataset.path)) == 58
    assert dataset.manifest.rejected_by_reason == {"not_an_image": 2}
    assert [reject["path"] for reject in dataset.manifest.rejects] == ["0.parquet row 7", "1.parquet row 7"]


def test_digits_are_built_in(spark: SparkSession, tmp_path: Path) -> None:
    dataset = prepare.prepare(lambda: spark, DataConfig(), str(tmp_path))
    counts = dataset.manifest.counts
    assert sum(sum(classes.values()) for classes in counts.values()) == 1797
    from sklearn.datasets import load_digits

    for label, total in enumerate(np.bincount(load_digits().target)):
        found = [counts[split][str(label)] for split in manifest.SPLITS]
        assert found == pytest.approx([total * 0.7, total * 0.15, total * 0.15], abs=1)


def test_two_runs_at_once_both_succeed(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path)).path)
        except Exception as error:  # shown by the assertion below
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and verify.verify(found[0])
    assert len(list(tmp_path.iterdir())) == 1, "nothing temporary is left"


def no_dataset(root: Path) -> bool:
    return not root.exists() or not [
        path for path in root.rglob("*") if path.is_file() and ".sources" not in path.parts
    ]


def test_bad_input_is_one_line_and_leaves_nothing(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    single = image_folder(tmp_path / "single", per_class=8, classes=("only",))
    few = image_folder(tmp_path / "few", per_class=20)
    image_folder(few, per_class=2, classes=("rare",), first=50)
    (tmp_path / "t.csv").write_text("file,label\nx.png,a\n")
    (tmp_path / "blocked").write_text("a file where the folder should be")
    cases: list[tuple[DataConfig, Path, str]] = [
        (folder_config(tmp_path / "nowhere"), root, "nowhere"),
        (folder_config(tmp_path / "empty"), root, "without any image"),
        (folder_config(single), root, "single class only"),
        (folder_config(few), root, "at least 5 images per class.*class rare with 2[.]"),
        (folder_config(tmp_path / "t.csv", source="table"), root, "Expected the column path"),
        (folder_config(few / "cat" / "0000.png", source="table"), root, "Expected a Parquet table, or a CSV"),
        (folder_config(few, source="split_folder"), root, "train, val, test inside or outside"),
        (folder_config(pictures), tmp_path / "blocked" / "root", "Expected dataset_root"),
        (folder_config("nosuchstore://bucket/x"), root, "fsspec"),
    ]
    for config, where, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            prepare.prepare(lambda: spark, config, str(where))
        assert "\n" not in str(caught.value) and "Received:" in str(caught.value)
        assert no_dataset(root), message


def test_a_full_disk_is_one_line(
    spark: SparkSession, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(work, "write_shards", full)  # Spark pickles it by value, since this file is no package
    with pytest.raises(UserError, match=r"dataset_root to have room, .*\(No space left on device\)\. Free") as caught:
        prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))
    assert "\n" not in str(caught.value) and list(tmp_path.glob(".work/t-*/part-*.parquet"))
    monkeypatch.undo()
    assert not prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path)).reused


def test_damage_in_the_root_is_named(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    dataset = prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))
    (Path(dataset.path) / "train-00000-of-00001.tfrecord").unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001\.tfrecord is missing"):
        prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))
    (Path(dataset.path) / manifest.FILE).write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        prepare.prepare(lambda: spark, folder_config(pictures), str(tmp_path))


def test_verify_reads_everything_and_names_what_is_wrong(spark: SparkSession, pictures: Path, tmp_path: Path) -> None:
    for encoding in ("png", "raw", "jpeg"):
        dataset = prepare.prepare(
            lambda: spark, folder_config(pictures, name=encoding, encoding=encoding), str(tmp_path)
        )
        seen: list[tuple[int, int]] = []
        verified = verify.verify(dataset.path, lambda *p, seen=seen: seen.append(p))
        assert (verified.records, verified.shards, seen[-1]) == (60, 3, (3, 3))
    listed = index.read(f"{dataset.path}/rejects.parquet")
    table = index.read(f"{dataset.path}/{index.FILE}")
    index.write(f"{dataset.path}/rejects.parquet", table.select(listed.schema.names).slice(0, 1))
    with pytest.raises(UserError, match=r"0 rejects in rejects\.parquet, found 1"):
        verify.verify(dataset.path)
    index.write(f"{dataset.path}/rejects.parquet", listed)
    index.write(f"{dataset.path}/{index.FILE}", table.slice(1))
    with pytest.raises(UserError, match=r"index\.parquet and the shards"):
        verify.verify(dataset.path)
    for name in (index.FILE, "rejects.parquet"):
        file = Path(dataset.path, name)
        whole = file.read_bytes()
        for damage, told in ((file.unlink, "is missing"), (lambda file=file: file.write_bytes(b"x"), "is damaged")):
            damage()
            with pytest.raises(UserError, match=rf"Expected {name} .*{told}.*Delete .* prepare"):
                index.of_dataset(dataset.path, name)
        file.write_bytes(whole)
    path = Path(dataset.path, manifest.FILE)
    path.write_text(path.read_text().replace('"bird": 14', '"bird": 15'))
    with pytest.raises(UserError, match="counts of split train"):
        verify.verify(dataset.path)


def test_summary_and_page_tell_the_same_numbers(spark: SparkSession, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "in")
    (folder / "cat" / "again.png").write_bytes((folder / "cat" / "0002.png").read_bytes())
    (folder / "bird" / "<b>cut.jpg").write_bytes(encoded(picture(5), ".jpg")[:600])
    image_folder(folder, per_class=8, classes=("[red]", "two\nlines"), first=100)
    dataset = prepare.prepare(lambda: spark, folder_config(folder), str(tmp_path / "out"))
    rows = {row.name: row for row in class_table.rows_of(dataset)}
    assert rows["cat"].duplicates == 1 and rows["bird"].rejected == {"truncated": 1}
    assert sum(class_table.total(list(rows.values())).kept.values()) == 76
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    console.print(class_table.table(dataset))
    shown = console.export_text()
    assert "76 of 78 images kept" in shown and "│ [red] " in shown and "│ two\\nlines " in shown
    page = Path(dataset.path, "dataset.html").read_text()
    assert page.count("<figure") == 5 and "&lt;b&gt;cut.jpg" in page and "truncated" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
