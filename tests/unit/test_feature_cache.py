"""The driver's part of the feature cache: when it applies, what is reused, what is computed again, two at once."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from distributed_cls import feature_cache
from distributed_cls.config import ClusterConfig, Config, DataConfig, JobConfig, TrainConfig
from distributed_cls.contracts import checkpoint, features, manifest
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.errors import UserError
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from distributed_cls.models.pretrained import PretrainedSettings
from distributed_cls.run.progress import Display
from distributed_cls.run_context import Run
from distributed_cls.spark import stage
from distributed_cls.training import feature_shards
from tests.shards import records, write_dataset

MODEL = CnnConfig(filters=[4], units=6, weights="given")


class Place:
    """A prepared data set, weights, and a "Spark" that runs its tasks in this process, one after the other."""

    def __init__(self, folder: Path) -> None:
        every = records(30)
        content = write_dataset(
            folder / "data", {"train": [every[:9], every[9:18]], "val": [every[18:24]], "test": [every[24:]]}
        )
        self.folder, self.dataset = folder, Dataset(str(folder / "data"), content, reused=False)
        self.weights = folder / "start.keras"
        build(dataclasses.replace(MODEL, weights=None), 8, 3).save(self.weights)
        (folder / "run").mkdir()
        self.stages = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def run_stage(
        self, spark: Any, name: str, task: Callable[[Iterable[Any]], Iterable[Any]], items: Sequence[Any]
    ) -> list[Any]:
        self.stages += 1
        found = [result for item in items for result in task([item])]
        self.meanwhile()
        return found

    def provide(self, **settings: Any) -> str | None:
        config = Config(**{"data": DataConfig(image_size=8), "model": MODEL, **settings})
        run = Run(config, self.folder / "run", get_spark=lambda: pytest.fail("Spark is there already"))
        spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=2))
        return feature_cache.provide(run, self.dataset, str(self.weights), lambda: spark, Display(None))  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Place:
    caplog.set_level(logging.INFO)
    made = Place(tmp_path)
    monkeypatch.setattr(stage, "run", made.run_stage)
    monkeypatch.setattr(feature_cache, "import_tensorflow", lambda: None)  # it is imported
    feature_shards._extractor.cache_clear()
    return made


def test_they_are_computed_once_for_all_runs_with_this_backbone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    folder = place.provide()
    assert folder is not None and folder.startswith(str(place.folder / "data" / features.FOLDER))
    assert "Features of the frozen backbone: 30 images computed in " in caplog.text
    found = features.load(folder)
    assert found.length == 6
    counts = {split: [shard.records for shard in shards] for split, shards in found.shards.items()}
    assert counts == {"train": [9, 9], "val": [6], "test": [6]}
    head = dataclasses.replace(MODEL, dropout=0.7)  # of another trial
    assert place.provide(model=head, train=TrainConfig(learning_rate=0.5)) == folder and place.stages == 1
    assert f"reused, {folder}" in caplog.text
    build(dataclasses.replace(MODEL, weights=None), 8, 3).save(place.weights)  # other random weights
    other = place.provide()
    assert other not in (None, folder) and place.stages == 2
    assert sorted(path.name for path in (place.folder / "data" / features.FOLDER).iterdir()) == sorted(
        Path(each).name for each in (folder, other) if each
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": dataclasses.replace(MODEL, feature_cache="off")}, ""),
        ({"model": dataclasses.replace(MODEL, freeze_backbone=False)}, ""),
        ({"model": DenseConfig()}, ""),
        ({"train": TrainConfig(flip=True)}, "augmentation makes another image"),
        ({"train": TrainConfig(mixup=0.2)}, "train.mixup and train.cutmix mix images anew"),
        ({"cluster": ClusterConfig(gpus_per_worker=1)}, "has no GPU"),
    ],
)
def test_where_they_do_not_apply_one_line_says_why(
    place: Place, settings: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert place.provide(**settings) is None
    assert place.stages == 0 and not (place.folder / "data" / features.FOLDER).exists()
    told = [record.getMessage() for record in caplog.records if record.name == feature_cache.__name__]
    assert len(told) == bool(said) and said in "".join(told)


def test_on_is_refused_where_they_cannot_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    on = dataclasses.replace(MODEL, feature_cache="on")
    for settings, said in (
        ({"model": dataclasses.replace(on, weights=None)}, "the backbone is not frozen.* Set model.weights"),
        ({"model": on, "train": TrainConfig(augment="photo")}, "augmentation makes another image"),
        ({"model": on, "job": JobConfig(name="suspects")}, "job=suspects trains on folds"),
    ):
        with pytest.raises(UserError, match=rf"Expected model.feature_cache to be auto or off: {said}"):
            Config(**settings)  # type: ignore[arg-type]
    Config(
        model=on,
        train=TrainConfig(augment="photo"),
        job=JobConfig(name="predict"),
        data=DataConfig(source="folder", path="x"),
        model_dir="x",
        output="y",
    )
    monkeypatch.setattr(BackboneConfig, "has_fixed_features", False)  # a model of a plug-in
    assert BackboneConfig(weights="x").keeps_features == "off" == PretrainedSettings(weights="x").keeps_features
    with pytest.raises(UserError, match="does not promise the same features"):
        BackboneConfig(weights="x", feature_cache="on")


def test_views_of_augmented_images_are_stored_where_they_are_asked_for(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    model = dataclasses.replace(MODEL, feature_views=3)
    folder = place.provide(model=model, train=TrainConfig(flip=True))
    assert folder is not None and "30 images, 3 views of each training image computed in" in caplog.text
    assert features.load(folder).origin.views == 3
    assert place.provide(model=model, train=TrainConfig(flip=True, seed=1)) not in (None, folder)


def test_a_run_in_its_second_phase_needs_none(place: Place) -> None:
    first = TrainResult(1, 1, 1, loss=1, accuracy=0, learning_rate=1, images_per_second=1)
    path = place.folder / "run" / "checkpoints" / checkpoint.LAST
    checkpoint.write(path, {}, Position(epoch=1, first_phase=first))
    assert place.provide() is None
    checkpoint.write(path, {}, Position(epoch=1))
    assert place.provide() is not None


@pytest.mark.parametrize("damage", ["shard", "short", "manifest", "lost"])
def test_what_is_damaged_is_computed_again_and_told_once(
    place: Place, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = place.provide()
    assert folder is not None
    shard = next(Path(folder).glob("val-*.tfrecord"))
    data = bytearray(shard.read_bytes())
    if damage == "lost":
        shard.unlink()
    elif damage == "manifest":
        (Path(folder) / features.FILE).write_text("{")
    else:
        data[40] ^= 1
        shard.write_bytes(data[:-1] if damage == "short" else data)
    caplog.clear()
    assert place.provide() == folder and place.stages == 2
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1 and "computed again. Expected" in warned[0]
    whole = features.load(folder)
    for part in (part for shards in whole.shards.values() for part in shards):
        manifest.check_shard(folder, part)
    assert place.provide() == folder and place.stages == 2


def test_of_two_runs_at_once_the_first_ones_stay(place: Place) -> None:
    seen: list[bytes] = []

    def another_run() -> None:
        place.meanwhile = lambda: None
        folder = place.provide()
        assert folder is not None
        seen.append((Path(folder) / features.FILE).read_bytes())

    place.meanwhile = another_run
    folder = place.provide()
    assert folder is not None and place.stages == 2
    assert [(Path(folder) / features.FILE).read_bytes()] == seen
    assert len(list(Path(folder).glob("*.tfrecord"))) == 4
    assert [path.name for path in Path(folder).parent.iterdir()] == [Path(folder).name]


def test_a_store_takes_them_too(place: Place) -> None:
    """Without a rename, the manifest comes last, and of two runs at once the files of the first one count."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(place.folder / "data"), "/bucket/data", recursive=True)
    place.dataset = dataclasses.replace(place.dataset, path="memory://bucket/data")
    place.meanwhile = lambda: (setattr(place, "meanwhile", lambda: None), place.provide())
    folder = place.provide()
    try:
        assert folder is not None and folder.startswith("memory://bucket/data/features/") and place.stages == 2
        found = features.load(folder)
        for shard in (shard for shards in found.shards.values() for shard in shards):
            manifest.check_shard(folder, shard)
        assert place.provide() == folder and place.stages == 2
    finally:
        store.rm("/bucket", recursive=True)


def test_what_a_task_refuses_is_one_line_and_leaves_nothing(place: Place) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(place.weights)
    with pytest.raises(UserError, match=r"Expected model.weights to (fit|hold) the .*layer"):
        place.provide()
    assert list((place.folder / "data" / features.FOLDER).iterdir()) == []


def test_where_nothing_can_be_written_auto_does_without(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    (place.folder / "data" / features.FOLDER).write_text("a file where the folder should be")
    assert place.provide() is None and "its features cannot be stored. Expected dataset_root" in caplog.text
    with pytest.raises(UserError, match="Expected dataset_root to be a folder that can be written"):
        place.provide(model=dataclasses.replace(MODEL, feature_cache="on"))
