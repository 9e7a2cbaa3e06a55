"""The manifest of stored features: written and read again; what is damaged is refused; what names them."""

import dataclasses
import json
from pathlib import Path

import pytest

from distributed_cls.config import Config, TrainConfig
from distributed_cls.config.registry import ModelSettings
from distributed_cls.contracts import features
from distributed_cls.contracts.features import Features, Images, Origin
from distributed_cls.contracts.manifest import SPLITS, Shard
from distributed_cls.errors import UserError
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.cnn import CnnConfig
from tests.shards import records, write_dataset

MODEL = CnnConfig(weights="runs/earlier")
ORIGIN = Origin.of("5b1d3e7f", Config(model=MODEL), "ab" * 32, "3.15.1")
# As the first release that had it wrote it.
_FIRST = """{"schema_version": 1,
 "origin": {"dataset": "1f", "model": {"name": "cnn", "filters": [8]}, "weights": "ab", "keras": "3.15.1"},
 "length": 2,
 "shards": {"train": [{"file": "a.1.tfrecord", "records": 3, "bytes": 4, "crc32c": 7}], "val": [], "test": []}}"""


def stored(folder: Path) -> Features:
    shards: dict[str, list[Shard]] = {}
    for number, split in enumerate(SPLITS):
        file = f"{split}-00000-of-00001.c0ffee.tfrecord"
        (folder / file).write_bytes(bytes(10 + number))
        shards[split] = [Shard(file, number, 10 + number, 4711)]
    return Features(ORIGIN, 128, shards)


def test_it_is_written_and_read_again(tmp_path: Path) -> None:
    written = stored(tmp_path)
    assert not features.exists(str(tmp_path))
    features.write(str(tmp_path), written)
    assert features.exists(str(tmp_path)) and features.load(str(tmp_path)) == written


def test_the_first_version_is_read(tmp_path: Path) -> None:
    (tmp_path / features.FILE).write_text(_FIRST)
    (tmp_path / "a.1.tfrecord").write_bytes(b"1234")
    found = features.load(str(tmp_path))
    assert found.length == 2 and found.shards["train"] == [Shard("a.1.tfrecord", 3, 4, 7)]
    assert found.origin == Origin("1f", {"name": "cnn", "filters": [8]}, "ab", "3.15.1")


def test_what_is_damaged_or_newer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    features.write(str(tmp_path), stored(tmp_path))
    file = tmp_path / features.FILE
    whole = json.loads(file.read_text())
    for changes, said in (
        ({"schema_version": 99}, "schema version 99, which is newer"),
        ({"length": "many"}, "a whole number"),
        ({"shards": {"train": []}}, "no shards of val, test"),
    ):
        file.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(UserError, match=rf"{said}.* Remove .*: the next run computes the features again"):
            features.load(str(tmp_path))
    file.write_text(json.dumps(whole))
    (tmp_path / whole["shards"]["val"][0]["file"]).write_bytes(b"short")
    with pytest.raises(UserError, match=r"val-00000-of-00001\.c0ffee\.tfrecord has 5 bytes"):
        features.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"dropout": 0.9}, True),  # the head's
        ({"weights": "https://elsewhere/the-same.keras"}, True),  # a checksum names the content
        ({"fine_tune_from": "block_2"}, True),
        ({"feature_cache": "on"}, True),
        ({"feature_views": 5}, True),  # nothing is augmented
        ({"filters": [8, 16]}, False),
        ({"pool_first": True}, False),
    ],
)
def test_the_backbone_names_the_features_and_the_head_does_not(change: dict[str, object], same: bool) -> None:
    model = dataclasses.replace(MODEL, **change)  # type: ignore[arg-type]
    other = Origin.of(ORIGIN.dataset, Config(model=model), ORIGIN.weights, ORIGIN.keras)
    assert (other.digest == ORIGIN.digest) is same


def test_images_weights_and_networks_name_them_too() -> None:
    settings: list[ModelSettings] = [MODEL, BackboneConfig(weights="x"), BackboneConfig(weights="x", alpha=0.5)]
    origins = [
        Origin.of(dataset, Config(model=model), weights, keras)
        for dataset in ("1f", "2e")
        for model in settings
        for weights in ("ab", "cd")
        for keras in ("3.15.1", "3.16.0")
    ]
    assert len({origin.digest for origin in origins}) == len(origins)


def test_views_are_named_by_what_makes_them() -> None:
    def digest(views: int, **train: object) -> str:
        config = Config(model=dataclasses.replace(MODEL, feature_views=views), train=TrainConfig(**train))  # type: ignore[arg-type]
        return Origin.of("1f", config, "ab", "3").digest

    flipped = digest(4, flip=True)
    assert flipped == digest(4, flip=True, learning_rate=0.5, epochs=3)
    others = {digest(5, flip=True), digest(4, flip=True, seed=1), digest(4, flip=True, shift=0.1), digest(4)}
    assert len(others | {flipped}) == 5


def test_tasks_take_whole_shards_or_blocks_of_them(tmp_path: Path) -> None:
    every = records(150)
    content = write_dataset(tmp_path / "data", {"train": [every[:3], every[3:110]], "val": [every[110:]], "test": []})

    def found(tasks: int) -> list[tuple[str, int, int, int]]:
        return [(images.split, images.first, images.start, images.records) for images in Images.all_of(content, tasks)]

    assert found(1) == [("train", 0, 0, 3), ("train", 3, 0, 107), ("val", 0, 0, 40)]
    halves = [("train", 3, 0, 64), ("train", 67, 64, 43)]
    assert found(3) == [("train", 0, 0, 3), *halves, ("val", 0, 0, 40)]
    assert [records for *_, records in found(1000)] == [3, 32, 32, 32, 11, 32, 8]
    assert len({images.stem for images in Images.all_of(content, 1000)}) == 7
