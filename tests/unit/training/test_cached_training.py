"""A rank that trains the head on stored features: as on images, in one go or resumed, and the whole model exported."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from distributed_cls.config import ClusterConfig, Config, DataConfig, EvaluateConfig, TrainConfig
from distributed_cls.contracts import checkpoint, features, manifest, rank_predictions
from distributed_cls.contracts.events import MistakesFound
from distributed_cls.contracts.features import FeatureJob, Features, Images, Origin
from distributed_cls.contracts.manifest import Shard
from distributed_cls.contracts.rank_task import RankResult, RankTask, Step
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.mirror_image import without_mirror_image
from distributed_cls.training import feature_shards
from tests.shards import records, write_dataset

from .test_ranks import _events, _ranks, _result

MODEL = CnnConfig(filters=[4, 8], units=8, dropout=0.2, weights="runs/earlier")
CONFIG = Config(data=DataConfig(image_size=8), model=MODEL, cluster=ClusterConfig(workers=1))
TRAIN = TrainConfig(epochs=4, batch_size=12, learning_rate=0.2, optimizer="sgd", schedule="constant")
# Epochs, whether on features, and whether the final model looks at mirror images as well, which have no features.
STARTS = {
    "images": (4, False, False),
    "begun": (2, True, False),
    "resumed": (4, True, False),
    "mirrored": (4, True, True),
}


@dataclasses.dataclass
class Trained:
    """What the starts left; those on features are of one run."""

    folder: Path
    results: dict[str, RankResult]
    best: dict[str, dict[str, np.ndarray]]
    earlier: keras.Model
    fingerprint: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("cached")
    every = records(152)
    content = write_dataset(
        folder / "data", {"train": [every[:36], every[36:72]], "val": [every[72:112]], "test": [every[112:]]}
    )
    keras.utils.set_random_seed(5)
    earlier = build(dataclasses.replace(MODEL, weights=None), 8, 7)
    earlier.save(folder / "start.keras")
    _store(folder, content)
    left = Trained(folder, {}, {}, earlier, content.fingerprint)
    for name, (epochs, on_features, mirror) in STARTS.items():
        run = folder / ("run-on-features" if on_features else "run-on-images")
        train = dataclasses.replace(TRAIN, epochs=epochs)
        task = RankTask(
            dataclasses.replace(CONFIG, train=train, evaluate=EvaluateConfig(mirror=mirror)),
            str(folder / "data"),
            "1",
            str(run),
            (Step.TRAIN,) if name == "begun" else (Step.TRAIN, Step.EVALUATE, Step.EXPORT),
            start_weights=str(folder / "start.keras"),
            features=str(folder / "features") if on_features else None,
        )
        with _ranks("whole", folder / name, 1, task):
            pass
        left.results[name] = _result(folder / name, 0)
        if Step.EXPORT in task.steps:
            (run / "model").rename(folder / f"model-{name}")
        left.best[name] = checkpoint.read(run / "checkpoints" / checkpoint.BEST)[0]
    return left


def _store(folder: Path, content: manifest.Manifest) -> None:
    """Store the features of all splits, as the driver has it done."""
    target = folder / "features"
    target.mkdir()
    job = FeatureJob("1", str(folder / "data"), str(target), str(folder / "start.keras"), CONFIG)
    shards: dict[str, list[Shard]] = {"train": [], "val": [], "test": []}
    length = 0
    for images in Images.all_of(content, tasks=5):  # val and test are cut in two
        written = feature_shards.write(job, images)
        assert written.shard is not None
        shards[images.split].append(written.shard)
        length = written.length
    feature_shards._extractor.cache_clear()
    origin = Origin.of(content.fingerprint, CONFIG, "ab", "3")
    features.write(str(target), Features(origin, length, shards))


def test_training_on_features_is_training_on_images(trained: Trained) -> None:
    on_images, on_features = trained.results["images"].train, trained.results["resumed"].train
    assert on_images is not None and on_features is not None
    assert on_features.epochs == 4 and on_features.steps == on_images.steps == 4 * 6
    assert on_features.best_epoch == on_images.best_epoch and on_features.val_accuracy == on_images.val_accuracy
    assert on_features.loss == pytest.approx(on_images.loss, rel=1e-4)
    assert trained.best["resumed"].keys() == trained.best["images"].keys()
    for name, value in trained.best["images"].items():
        np.testing.assert_allclose(trained.best["resumed"][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_run_on_features_goes_on_where_it_stood(trained: Trained) -> None:
    [noted] = [
        line for line in (trained.folder / "resumed" / "rank-0.jsonl").read_text().splitlines() if "Resumed" in line
    ]
    assert "at step 12 in epoch 3" in noted
    begun = trained.results["begun"].train
    assert begun is not None and begun.epochs == 2


def test_checkpoints_leave_out_what_is_frozen(trained: Trained) -> None:
    for run in ("run-on-features", "run-on-images"):
        checkpoints = trained.folder / run / "checkpoints"
        [frozen] = checkpoints.glob("frozen-*.npz")  # of both starts
        with np.load(frozen) as stored:
            backbone = [name.partition(":")[2] for name in stored.files]
        assert len(backbone) == 2 * 5 + 2 and {"kernel", "gamma", "moving_variance", "bias"} == set(backbone) - {
            "beta",
            "moving_mean",
        }
        for name in (checkpoint.LAST, checkpoint.BEST):
            with np.load(checkpoints / name) as stored:
                left = [key.partition(":")[2] for key in stored.files if key != "position.json"]
            assert left[:2] == ["seed_generator_state", "kernel"] and len(left) < len(backbone) + 4


def test_evaluation_on_features_counts_what_images_give(trained: Trained) -> None:
    for split in ("val", "test"):
        found, expected = (trained.results[name].counts[split].counts for name in ("resumed", "images"))
        np.testing.assert_array_equal(found.confusion, expected.confusion)
        assert found.examples == 40 and found.loss == pytest.approx(expected.loss, rel=1e-4)
    stored = [
        rank_predictions.read(trained.folder / run, "val", 0, 1, trained.fingerprint).ranges.tolist()
        for run in ("run-on-features", "run-on-images")
    ]
    assert stored == [[[0, 0, 40]]] * 2  # of the shards of images
    shown = [
        [(item.key, item.image) for event in _events(trained.folder / name, 0, MistakesFound) for item in event.items]
        for name in ("resumed", "images")
    ]
    assert shown[0] == shown[1]  # its pictures are the images


@pytest.mark.parametrize("name", ["resumed", "mirrored"])
def test_the_exported_model_is_whole_and_answers_as_it_was_evaluated(trained: Trained, name: str) -> None:
    exported = keras.saving.load_model(trained.folder / f"model-{name}" / "model.keras", compile=False, safe_mode=True)
    inner = without_mirror_image(exported)
    for layer in ("block_0_conv", "block_1_norm", "dense"):
        given = trained.earlier.get_layer(layer).get_weights()
        for value, wanted in zip(inner.get_layer(layer).get_weights(), given, strict=True):
            np.testing.assert_array_equal(value, wanted)
    test = records(152)[112:]
    images, labels = np.stack([image for image, _, _ in test]), np.array([label for _, label, _ in test])
    answers = exported.predict(images.astype(np.float32), verbose=0).argmax(1)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, answers), 1)
    np.testing.assert_array_equal(trained.results[name].counts["test"].counts.confusion, confusion)
    assert (inner is not exported) == (name == "mirrored")
