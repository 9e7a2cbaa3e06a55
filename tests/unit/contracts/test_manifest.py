"""Records and manifest, against TensorFlow's own reader and against damage."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_cls.contracts import manifest, tfrecord
from distributed_cls.contracts.manifest import Manifest, Shard
from distributed_cls.errors import UserError


def write_dataset(folder: Path) -> Manifest:
    import google_crc32c

    shards: dict[str, list[Shard]] = {}
    for split in manifest.SPLITS:
        content = b"".join(tfrecord.frame(tfrecord.example(bytes([n]) * 50, n, b"k" * 16)) for n in range(3))
        name = f"{split}-00000-of-00001.tfrecord"
        (folder / name).write_bytes(content)
        shards[split] = [Shard(name, 3, len(content), google_crc32c.value(content))]
    counts = {split: {"a": 1, "b": 2} for split in manifest.SPLITS}
    fractions = dict(zip(manifest.SPLITS, (0.7, 0.15, 0.15), strict=True))
    made = Manifest("x", "f", ["a", "b"], 8, "png", "stretch", 0, "", fractions, counts, shards)
    manifest.write(str(folder), made)
    return made


def test_tensorflow_reads_what_we_write() -> None:
    import tensorflow as tf

    payload = bytes(range(256)) * 300
    data = tfrecord.example(payload, 300_000, b"0123456789abcdef")
    features = {"image": ([], tf.string), "key": ([], tf.string), "label": ([], tf.int64)}
    parsed = tf.io.parse_single_example(data, {name: tf.io.FixedLenFeature(*kind) for name, kind in features.items()})
    assert parsed["image"].numpy() == payload
    assert (parsed["label"].numpy(), parsed["key"].numpy()) == (300_000, b"0123456789abcdef")
    assert tfrecord.parse_example(data) == {"image": payload, "key": b"0123456789abcdef", "label": 300_000}
    ours = tf.train.Example.FromString(data)
    assert tfrecord.parse_example(ours.SerializeToString())["label"] == 300_000


def test_frames_come_back_and_damage_is_seen() -> None:
    content = tfrecord.frame(b"one") + tfrecord.frame(b"")
    assert list(tfrecord.read_frames(io.BytesIO(content))) == [b"one", b""]
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 4
        with pytest.raises(tfrecord.DamagedRecord):
            list(tfrecord.read_frames(io.BytesIO(bytes(damaged))))


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\xff" * 30, b"\x0b\x00", b"\x0a\x02\x0a\x00"])
def test_damaged_examples_are_told(data: bytes) -> None:
    with pytest.raises(tfrecord.DamagedRecord):
        tfrecord.parse_example(data)


def test_manifest_comes_back(tmp_path: Path) -> None:
    made = write_dataset(tmp_path)
    assert manifest.load(str(tmp_path)) == made
    assert made.records("train") == 3


def change(folder: Path, **values: object) -> None:
    content = json.loads((folder / manifest.FILE).read_text())
    (folder / manifest.FILE).write_text(json.dumps({**content, **values}))


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Received: .* has no manifest\.json"):
        manifest.load(str(tmp_path))
    write_dataset(tmp_path)
    change(tmp_path, schema_version=99)
    with pytest.raises(UserError, match=r"schema version 3 or earlier.*schema_version=99"):
        manifest.load(str(tmp_path))
    change(tmp_path, schema_version=3, surprise=1)
    with pytest.raises(UserError, match=r"damaged.*surprise"):
        manifest.load(str(tmp_path))
    (tmp_path / manifest.FILE).write_text('{"schema_version": 1, "na')
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        manifest.load(str(tmp_path))
    (tmp_path / manifest.FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        manifest.load(str(tmp_path))


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    made = write_dataset(tmp_path)
    shard = tmp_path / "val-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    assert manifest.load(str(tmp_path)) == made  # the size is right; only reading it tells
    with pytest.raises(UserError, match=r"val-00000-of-00001\.tfrecord .*crc32c"):
        manifest.check_shard(str(tmp_path), made.shards["val"][0])
    shard.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"val-00000.* has \d+ bytes"):
        manifest.load(str(tmp_path))
    shard.unlink()
    with pytest.raises(UserError, match=r"val-00000.* is missing"):
        manifest.load(str(tmp_path))


def test_manifest_needs_neither_spark_nor_opencv_and_the_stage_no_tensorflow() -> None:
    code = (
        "import sys; import distributed_cls.contracts.manifest; heavy = {'pyspark', 'cv2', 'numpy', 'tensorflow'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "import distributed_cls.dataset.prepare, distributed_cls.dataset.work;"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


VERSION_1 = """{"name": "birds", "fingerprint": "12df639246aca4ad", "classes": ["owl", "wren"], "image_size": 32,
 "encoding": "png", "resize": "stretch", "seed": 0, "split_salt": "",
 "fractions": {"train": 0.7, "val": 0.2, "test": 0.1},
 "counts": {"train": {"owl": 7, "wren": 7}, "val": {"owl": 2, "wren": 2}, "test": {"owl": 1, "wren": 1}},
 "shards": {"train": [{"file": "train-00000-of-00001.tfrecord", "records": 14, "bytes": 9, "crc32c": 5}],
            "val": [], "test": []},
 "rejected": 1, "rejected_by_reason": {"unreadable": 1},
 "rejects": [{"path": "owl/x.png", "reason": "unreadable", "detail": "No such file or directory"}],
 "duplicates": 0, "source": "folder:s3://bucket/birds", "source_digest": "8f31d43f14a092f4",
 "lineage": "6cef466d1a4513fd", "generation": 1, "base": null, "schema_version": 1}"""


def test_a_manifest_of_version_1_is_read_and_written_as_version_3() -> None:
    old = manifest.loads(VERSION_1, "here")
    assert (old.source, old.source_root, old.schema_version) == ("folder", "s3://bucket/birds", 3)
    assert (old.records("train"), old.not_remembered, old.channels) == (14, 1, 3)
    assert manifest.loads(manifest.dumps(old), "here") == old
    grey = dataclasses.replace(old, channels=1)
    assert manifest.loads(manifest.dumps(grey), "here") == grey


def test_a_manifest_of_version_2_had_three_channels() -> None:
    content = json.loads(VERSION_1) | {"schema_version": 2, "source": "folder", "source_root": "s3://bucket/birds"}
    assert manifest.loads(json.dumps(content), "here") == manifest.loads(VERSION_1, "here")


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('"records": 14', '"records": "14"', "a whole number"),
        ('"train": [', '"tren": [', "no shards of train"),
        ('"source": "folder:s3://bucket/birds"', '"source": 7', "damaged"),
        ('"classes": ["owl", "wren"]', '"classes": "owl"', "a list"),
    ],
)
def test_a_field_of_another_type_is_named(before: str, after: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        manifest.loads(VERSION_1.replace(before, after), "here")


@pytest.mark.parametrize("name", ["t", "t-other", "a-0123456789abcdef", "cars 2024-x"])
def test_a_folders_name_gives_name_and_fingerprint(name: str) -> None:
    assert manifest.parse_folder_name(manifest.folder_name(name, "0123456789abcdef")) == (name, "0123456789abcdef")


@pytest.mark.parametrize("folder", [".work", "t", "t-", "t-xyz", "-0123456789abcdef", ".sources"])
def test_other_folders_are_no_data_sets(folder: str) -> None:
    assert manifest.parse_folder_name(folder) is None
