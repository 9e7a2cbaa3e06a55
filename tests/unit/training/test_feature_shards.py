"""Features of a frozen backbone: what a task writes, and a step of the head on them against one of the whole model."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import keras
import numpy as np
import pytest
import tensorflow as tf

from distributed_cls.config import Config, DataConfig, TrainConfig
from distributed_cls.contracts import tfrecord
from distributed_cls.contracts.features import FeatureJob, Images
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.pretrained import PretrainedSettings, backbone_of, weighted_layers
from distributed_cls.training import feature_shards
from distributed_cls.training.augment import one_view
from distributed_cls.training.draws import Draws
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.train_graph import TrainGraph
from tests.shards import Record, records, write_dataset

SIZE, CLASSES = 32, 3
HALVES = (slice(0, 6), slice(6, 12))
OWN, NESTED = "layers of its own", "a nested network"
MODELS = {
    OWN: CnnConfig(filters=[4, 8], units=8, dropout=0.3, weights="given"),
    NESTED: BackboneConfig(alpha=0.35, dropout=0.2, weights="given"),
}


@dataclasses.dataclass
class Stored:
    """A data set of 40 and 7 images, and the features of both splits."""

    model: keras.Model  # with the weights of the job, and a head of its own
    settings: PretrainedSettings
    folder: Path
    content: Manifest
    images: list[Record]
    job: FeatureJob

    def vectors(self, split: str) -> list[tuple[np.ndarray, int, bytes]]:
        """Vector, label and key of each record of a split, read without TensorFlow."""
        found = []
        shards = {shard.file for shard in self.content.shards[split]}
        for file in sorted(Path(self.job.target).glob(f"{split}-*.tfrecord")):
            assert file.name.partition(".")[0].rpartition("-")[0] + ".tfrecord" in shards
            with file.open("rb") as stream:
                for record in tfrecord.read_frames(stream):
                    example = tfrecord.parse_example(record)
                    image, label, key = example["image"], example["label"], example["key"]
                    assert isinstance(image, bytes) and isinstance(label, int) and isinstance(key, bytes)
                    found.append((np.frombuffer(image, "<f4"), label, key))
        return found


@pytest.fixture(scope="module", params=MODELS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder, settings = tmp_path_factory.mktemp("features"), MODELS[request.param]
    every = records(47, size=SIZE)
    content = write_dataset(folder / "data", {"train": [every[:35], every[35:40]], "val": [every[40:]], "test": []})
    model = _trained(settings, every)
    model.save(folder / "start.keras")
    (folder / "target").mkdir()
    config = Config(data=DataConfig(image_size=SIZE), model=settings)
    job = FeatureJob("1", str(folder / "data"), str(folder / "target"), str(folder / "start.keras"), config)
    tasks = Images.all_of(content, 3)
    for images, written in zip(tasks, feature_shards.write_all(job, tasks), strict=True):
        assert written.shard is not None and not written.refused
        data = (folder / "target" / written.shard.file).read_bytes()
        assert (written.shard.bytes, written.shard.crc32c) == (len(data), google_crc32c.value(data))
        assert written.shard.records == images.records
        assert written.length == backbone_of(model).output_shape[-1]
    yield Stored(model, settings, folder, content, every, job)
    feature_shards._extractor.cache_clear()


def _trained(settings: PretrainedSettings, images: list[Record]) -> keras.Model:
    """A model whose normalisation has the statistics of ``images``, so that they differ after it as well."""
    model = build(dataclasses.replace(settings, freeze_backbone=False), SIZE, CLASSES)
    for layer in weighted_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.stack([image for image, _, _ in images]).astype(np.float32), training=True)
    return model


def test_a_record_has_the_backbones_output_for_its_image(stored: Stored) -> None:
    pixels = np.stack([image for image, _, _ in stored.images]).astype(np.float32)
    if isinstance(stored.settings, CnnConfig):
        network = keras.Model(stored.model.input, stored.model.get_layer("dense").output)
    else:
        network, pixels = stored.model.get_layer("backbone"), keras.applications.mobilenet_v2.preprocess_input(pixels)
    expected = network.predict(pixels, verbose=0)
    assert expected.std(0).max() > 1e-3  # images of different content have different features
    found = stored.vectors("train") + stored.vectors("val")
    assert [(label, key) for _, label, key in found] == [(label, key) for _, label, key in stored.images]
    # Fifty normalisations one after the other make a rounding of 1e-7 one of 1e-4.
    np.testing.assert_allclose(np.stack([vector for vector, _, _ in found]), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("stored", "parts"), [(OWN, 1), (OWN, 2), (NESTED, 1)], indirect=["stored"])
def test_a_step_of_the_head_alone_is_one_of_the_whole_model(stored: Stored, parts: int) -> None:
    """Gradients equal to 1e-5, dropout included; then the weights after the step, which the model has, too."""
    labels = np.array([label for _, label, _ in stored.images[:40]])
    given = {
        False: np.stack([image for image, _, _ in stored.images[:40]]),
        True: np.stack([vector for vector, _, _ in stored.vectors("train")]),
    }
    train = TrainConfig(batch_size=40, optimizer="sgd", learning_rate=0.5, schedule="constant", accumulate=parts)
    gradients, heads = [], []
    for on_features, batch in given.items():
        replicated = _replicated(stored, train, on_features)
        graph = TrainGraph(replicated, train)
        own, sums = graph._gradients(tf.constant(40.0), tf.constant(batch), tf.constant(labels))
        gradients.append([np.asarray(value) for value in own])
        assert float(sums[0]) > 0 and max(float(np.abs(value).max()) for value in gradients[-1]) > 1e-3
        before = [np.array(weight) for weight in replicated.model.non_trainable_variables]
        batches = iter(replicated.distribute(tf.data.Dataset.from_tensors((batch, labels))))
        graph.train_call(batches, tf.constant(1))
        heads.append(replicated.model.get_layer("logits").get_weights())
        for weight, value in zip(replicated.model.non_trainable_variables, before, strict=True):
            if weight.name != "seed_generator_state":
                np.testing.assert_array_equal(np.asarray(weight), value)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    for one, other in zip(*heads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def _replicated(stored: Stored, train: TrainConfig, on_features: bool) -> ReplicatedModel:
    def begin() -> keras.Model:
        model = build(stored.settings, SIZE, CLASSES)
        model.set_weights(stored.model.get_weights())
        return model

    keras.utils.set_random_seed(3)
    return ReplicatedModel(tf.distribute.get_strategy(), begin, train, 10, on_features)


@pytest.mark.parametrize("stored", [OWN], indirect=True)
def test_views_of_training_images_are_augmented(stored: Stored, tmp_path: Path) -> None:
    """Of mirroring alone: each view is that of the image or of its mirror image, and both come."""
    views = 3
    config = dataclasses.replace(
        stored.job.config,
        model=dataclasses.replace(stored.settings, feature_views=views),
        train=TrainConfig(flip=True, seed=2),
    )
    written = []
    for tasks in (1, 2):
        target = tmp_path / str(tasks)
        target.mkdir()
        job = dataclasses.replace(stored.job, digest="3", target=str(target), config=config)
        parts = [images for images in Images.all_of(stored.content, tasks) if images.shard.records != 5]
        assert len(parts) == 1 + tasks
        shards = [features.shard for features in feature_shards.write_all(job, parts)]
        written.append(b"".join((target / shard.file).read_bytes() for shard in shards if shard is not None))
    assert written[0] == written[1]
    kept = dataclasses.replace(stored, job=job)
    pixels = np.stack([image for image, _, _ in stored.images[:35]]).astype(np.float32)
    backbone = backbone_of(stored.model)
    plain, mirrored = (backbone.predict(each, verbose=0) for each in (pixels, pixels[:, :, ::-1]))
    found = np.stack([vectors.reshape(views, -1) for vectors, _, _ in kept.vectors("train")])
    as_plain, as_mirrored = (
        np.isclose(found, each[:, None], rtol=1e-4, atol=1e-5).all(2) for each in (plain, mirrored)
    )
    assert (as_plain ^ as_mirrored).all() and 0.3 < as_plain.mean() < 0.7
    for (vector, _, _), (expected, _, _) in zip(kept.vectors("val"), stored.vectors("val"), strict=True):
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)


def test_each_batch_takes_one_view_of_each_image_on_whichever_rank() -> None:
    features = np.arange(60, dtype=np.float32).reshape(12, 5, 1)
    chosen = [one_view(features, 5, Draws(0, tf.constant(step), range(12), 12)).numpy() for step in range(40)]
    numbers = np.stack(chosen)[..., 0] - features[:, 0, 0]
    assert numbers.min() == 0 and numbers.max() == 4 and 1.7 < numbers.mean() < 2.3
    halves = [
        one_view(features[half], 5, Draws(0, tf.constant(7), range(half.start, half.stop), 12)) for half in HALVES
    ]
    np.testing.assert_array_equal(np.concatenate(halves), chosen[7])
    np.testing.assert_array_equal(one_view(features[:, 0], 1, Draws(0, tf.constant(0), range(12), 12)), features[:, 0])


def test_what_the_user_can_put_right_is_a_result(stored: Stored, tmp_path: Path) -> None:
    images = Images.all_of(stored.content)[-1]
    wider = (
        dataclasses.replace(stored.settings, filters=[4, 9])
        if isinstance(stored.settings, CnnConfig)
        else dataclasses.replace(stored.settings, alpha=0.5)
    )
    job = dataclasses.replace(
        stored.job, digest="2", target=str(tmp_path), config=dataclasses.replace(stored.job.config, model=wider)
    )
    [misfit] = feature_shards.write_all(job, [images])
    assert misfit.shard is None and "Expected model.weights to fit the layer" in misfit.refused
    wrong = dataclasses.replace(images, shard=dataclasses.replace(images.shard, crc32c=1))
    [damaged] = feature_shards.write_all(stored.job, [wrong])
    assert damaged.shard is None and f"Expected shard {images.shard.file} with" in damaged.refused
    assert not list(tmp_path.iterdir())
