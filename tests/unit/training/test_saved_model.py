"""The exported artefact: what plain TensorFlow and plain Keras make of it, and what a heat map shows."""

import dataclasses
import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.special import logsumexp, softmax

from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.export import load_export
from distributed_cls.errors import UserError
from distributed_cls.models.mirror_image import with_mirror_image
from distributed_cls.predictor.classifier import Classifier
from distributed_cls.predictor.heat_map import HeatMap, can_explain
from distributed_cls.predictor.image_input import BadImageError, colour_map, prepare
from distributed_cls.predictor.likeliest import top
from distributed_cls.training.model_card import Card
from distributed_cls.training.saved_model import export_model

SIZE = 16
CARD = Card(
    model="tiny",
    dataset="squares",
    fingerprint="f00d",
    counts={"train": {"a": 1_000, "b": 234}},
    metrics={"val": {"accuracy": 0.5}, "test": {"accuracy": 0.25, "examples": 4}},
    config={"train": {"epochs": 1}},
)


def convolutional(nested: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    inner = keras.Input((SIZE, SIZE, 3))
    y = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inner)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization()(y))
    backbone = keras.Model(inner, keras.layers.GlobalAveragePooling2D()(y), name="backbone")
    x = backbone(x) if nested else keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    return keras.Model(pixels, keras.layers.Dense(3)(x), name="tiny")


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def probabilities(folder: Path) -> np.ndarray:
    """What the exported model of ``folder`` answers to ``images()``."""
    return np.stack([answer.probabilities for answer in Classifier(load_export(str(folder))).answers(images())])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    model, folder = convolutional(), tmp_path_factory.mktemp("run") / "model"
    export_model(model, folder, classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    return model, folder


def test_every_form_gives_the_softmax_of_the_model(exported: tuple[keras.Model, Path]) -> None:
    model, folder = exported
    expected = tf.nn.softmax(model(images().astype(np.float32), training=False)).numpy()
    assert expected.dtype == np.float32
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    prepared = loaded.signatures["images"](images=tf.constant(images()))["probabilities"].numpy()
    files = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images()]
    decoded = loaded.signatures["serving_default"](image_bytes=tf.constant(files))["probabilities"].numpy()
    stock = keras.models.load_model(folder / "model.keras").predict(images().astype(np.float32), verbose=0)
    for answer in (prepared, decoded, stock, probabilities(folder)):
        assert answer == pytest.approx(expected, abs=1e-6)


def test_the_temperature_and_the_threshold_travel_with_every_form(tmp_path: Path) -> None:
    model, confidence = convolutional(), Confidence(0.2, 0.4, 0.9, RejectBy.CONFIDENCE)
    card = dataclasses.replace(CARD, confidence=confidence)
    export_model(model, tmp_path / "model", classes=["a", "b", "c"], image_size=SIZE, card=card)
    logits = model(images().astype(np.float32), training=False).numpy()
    expected = softmax(logits / 0.2, axis=1)
    assert np.abs(expected - softmax(logits, axis=1)).max() > 0.01
    export = load_export(str(tmp_path))
    stock = keras.models.load_model(export.keras_file).predict(images().astype(np.float32), verbose=0)
    for answer in (stock, probabilities(tmp_path)):
        assert answer == pytest.approx(expected, abs=1e-6)
    energies = [answer.energy for answer in Classifier(export).answers(images())]
    assert energies == pytest.approx(logsumexp(logits / 0.2, axis=1), abs=1e-5)
    assert export.confidence == confidence
    assert HeatMap(export)(images()[0], 1).max() <= 1
    text = (tmp_path / "model" / "model_card.md").read_text()
    assert (
        'A confidence below 0.4000 means "none of these"' in text
        and "T = 0.2000" in text
        and "always predicts" not in text
    )


@pytest.mark.parametrize("nested", [False, True])
def test_every_form_of_a_mirrored_model_gives_the_mean_of_both_images(nested: bool, tmp_path: Path) -> None:
    model, pixels = convolutional(nested), images().astype(np.float32)
    for name, each in (("plain", model), ("mirrored", with_mirror_image(model))):
        export_model(each, tmp_path / name / "model", classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    plain, export = (load_export(str(tmp_path / name)) for name in ("plain", "mirrored"))
    logits = (model(pixels, training=False).numpy() + model(pixels[:, :, ::-1], training=False).numpy()) / 2
    stock = keras.models.load_model(export.keras_file).predict(pixels, verbose=0)
    for answer in (stock, probabilities(tmp_path / "mirrored")):
        assert answer == pytest.approx(softmax(logits, axis=1), abs=1e-6)
    assert can_explain(export)
    assert HeatMap(export)(images()[0], 1) == pytest.approx(HeatMap(plain)(images()[0], 1), abs=1e-5)


def test_a_model_of_a_release_without_energy_scores_still_answers(tmp_path: Path) -> None:
    """Schema 2: the SavedModel had no signature for scores, and the threshold was one of confidence."""
    model = convolutional()
    folder = tmp_path / "model"
    export_model(model, folder, classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    expected = probabilities(folder)
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    tf.saved_model.save(loaded, str(tmp_path / "older"), signatures={"images": loaded.signatures["images"]})
    export = dataclasses.replace(load_export(str(folder)), folder=str(tmp_path), confidence=Confidence(threshold=0.4))
    (tmp_path / "older").rename(tmp_path / "saved_model")
    answers = Classifier(export).answers(images())
    np.testing.assert_array_equal([answer.probabilities for answer in answers], expected)
    for answer in answers:
        assert export.confidence.accepts(answer.confidence, answer.energy) == (answer.probabilities.max() >= 0.4)


def test_the_folder_says_what_it_is(exported: tuple[keras.Model, Path]) -> None:
    _, folder = exported
    assert json.loads((folder / "labels.json").read_text()) == ["a", "b", "c"]
    about = json.loads((folder / "model.json").read_text())
    assert about["dataset"] == {"name": "squares", "fingerprint": "f00d"}
    assert about["metrics"]["test"] == {"accuracy": 0.25, "examples": 4}
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(about["files"]) == written - {"model.json"}
    card = (folder / "model_card.md").read_text()
    for words in ("a, b, c", "squares", "- train: 1,234 images", "## Limits", '"epochs": 1'):
        assert words in card
    table = ["| split | accuracy | examples |", "| --- | --- | --- |", "| val | 0.5000 |  |", "| test | 0.2500 | 4 |"]
    assert "\n".join(["## Evaluation", "", *table, "", "## Data"]) in card


def test_an_export_replaces_the_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_text("old")
    export_model(convolutional(), tmp_path / "model", classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old.txt").exists()


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Expected to write the exported model"):
        export_model(
            convolutional(), tmp_path / "file" / "model", classes=["a", "b", "c"], image_size=SIZE, card=Card("m")
        )


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_is_a_user_error_and_memory_is_none(
    full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow has one error for both."""
    text = "/x/part-00000; No space left on device [Op:SaveV2]" if full else "OOM when allocating tensor"

    def save(*arguments: object, **options: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, text)

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(UserError if full else tf.errors.ResourceExhaustedError, match="room for" if full else "OOM"):
        export_model(convolutional(), tmp_path / "model", classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_saved_model_is_a_user_error(exported: tuple[keras.Model, Path], tmp_path: Path) -> None:
    export = load_export(str(exported[1]))
    (tmp_path / "saved_model").mkdir()
    values = {**export.__dict__, "folder": str(tmp_path)}
    with pytest.raises(UserError, match="signature 'images'"):
        Classifier(type(export)(**values))


@pytest.mark.parametrize("nested", [False, True])
def test_grad_cam_equals_its_definition(nested: bool, tmp_path: Path) -> None:
    model = convolutional(nested)
    export_model(model, tmp_path / "model", classes=["a", "b", "c"], image_size=SIZE, card=CARD)
    export = load_export(str(tmp_path))
    assert can_explain(export)
    image = images(1)[0]
    heat = HeatMap(export)(image, 2)
    # For maps that are averaged and then go through one dense layer, the weights are the dense layer's over the places.
    layers = model.get_layer("backbone").layers if nested else model.layers
    last = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D | keras.layers.ReLU)][-1]
    source = model.get_layer("backbone") if nested else model
    maps = keras.Model(source.inputs[0], last.output)((image / 255.0 if nested else image)[None].astype(np.float32))
    weights = model.layers[-1].get_weights()[0][:, 2]
    expected = np.maximum((np.asarray(maps)[0] * weights).sum(-1), 0)
    assert heat == pytest.approx(expected / max(expected.max(), 1e-9), abs=1e-4)
    overlay = colour_map(heat, SIZE)
    assert (overlay.shape, overlay.dtype) == ((SIZE, SIZE, 4), np.uint8)


def test_a_model_without_convolutions_has_no_heat_map(tmp_path: Path) -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))
    export_model(model, tmp_path / "model", classes=["a", "b"], image_size=SIZE, card=CARD)
    export = load_export(str(tmp_path))
    assert not can_explain(export)
    with pytest.raises(UserError, match="convolutions"):
        HeatMap(export)


def test_a_grey_model_makes_a_photo_grey_wherever_it_is_asked(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    pixels = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    export_model(model, tmp_path / "model", classes=["a", "b"], image_size=SIZE, card=CARD, channels=1)
    export = load_export(str(tmp_path))
    assert export.channels == 1 and "pixels in grey" in (tmp_path / "model" / "model_card.md").read_text()
    image = images(1)[0]
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    expected = tf.nn.softmax(model(grey[None].astype(np.float32))).numpy()[0]
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(prepare(data, export), grey)
    classifier = Classifier(export)
    classifier.warm_up(1, 2)
    assert classifier.answers(prepare(data, export)[None])[0].probabilities == pytest.approx(expected, abs=1e-6)
    served = tf.saved_model.load(export.saved_model).signatures["serving_default"](image_bytes=tf.constant([data]))
    assert served["probabilities"].numpy()[0] == pytest.approx(expected, abs=1e-6)
    assert HeatMap(export)(prepare(data, export), 1).shape == (SIZE - 2, SIZE - 2)


def test_bad_images_have_a_reason_and_words_for_people(exported: tuple[keras.Model, Path]) -> None:
    export = load_export(str(exported[1]))
    with pytest.raises(BadImageError) as bad:
        prepare(b"<svg/>", export)
    assert bad.value.reason == "not_an_image"
    assert "JPEG" in str(bad.value)
    one_pixel = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    assert prepare(one_pixel, export).shape == (SIZE, SIZE, 3)


def test_top_is_sorted_and_stable() -> None:
    answer = top(np.array([0.2, 0.4, 0.2, 0.2], np.float32), ["a", "b", "c", "d"], 3)
    assert [label for label, _ in answer] == ["b", "a", "c"]
    assert len(top(np.array([1.0]), ["only"], 5)) == 1
