"""The story of the exported artefact: a trained model becomes a folder that everything else is served from.

model/
  saved_model/    TensorFlow: encoded image bytes, or prepared pixels, to probabilities
  model.keras     the same as a stock Keras model, its output probabilities
  labels.json     class names in index order
  model.json      what it is, and the size and checksum of every other file
  model_card.md   the same for people
"""

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from distributed_cls import storage
from distributed_cls.contracts import export
from distributed_cls.errors import UserError
from distributed_cls.images.graph import decode_images


class _Classifier(tf.Module):
    """What is saved: the model's variables, and one traced function that both signatures share."""

    def __init__(self, model: keras.Model, image_size: int, resize: str) -> None:
        super().__init__(name="classifier")
        # The bare variables, not the Keras model: tracking the model would write its whole object graph as well.
        self.model_variables = [variable.value for variable in model.variables]
        pixels = tf.TensorSpec([None, image_size, image_size, 3], tf.uint8, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

        @tf.function(input_signature=[pixels])
        def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(tf.cast(images, tf.float32), training=False)
            # float32 whatever the compute policy, so that every route gives the same digits.
            return {"probabilities": tf.nn.softmax(tf.cast(logits, tf.float32), axis=-1)}

        @tf.function(input_signature=[encoded])
        def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            answered: dict[str, tf.Tensor] = images(decode_images(image_bytes, image_size, resize))
            return answered

        self.images = images
        self.serving_default = serving_default


def export_model(
    model: keras.Model,
    folder: str | os.PathLike[str],
    *,
    classes: list[str],
    image_size: int,
    card: Mapping[str, Any],
    resize: str = "stretch",
) -> None:
    """Write the artefact of ``model`` to ``folder``, whole or not at all; an older one there is replaced.

    ``model`` takes images [N, image_size, image_size, 3] with values 0 to 255 and gives logits [N, len(classes)];
    its variables are plain ones (no distribution strategy). ``card`` holds ``model`` (name), ``dataset``, ``val``,
    ``test`` (each a dict of figures, maybe empty) and ``config``. ``resize`` is how the preparation made a picture
    square: stretch, crop or pad. Raises UserError when the folder cannot be written.
    """
    assert model.output_shape[-1] == len(classes), (model.output_shape, classes)
    target = Path(folder).absolute()
    try:
        with storage.replacing_folder(target) as temporary:
            _write(model, temporary, classes, image_size, resize, card)
    except OSError as error:
        raise UserError(
            f"Expected to write the exported model to {target}. Received: {error.strerror or error}. "
            "Choose a folder that can be written, with room for the model."
        ) from error


def _write(
    model: keras.Model, folder: Path, classes: list[str], image_size: int, resize: str, card: Mapping[str, Any]
) -> None:
    classifier = _Classifier(model, image_size, resize)
    tf.saved_model.save(
        classifier,
        str(folder / "saved_model"),
        signatures={"serving_default": classifier.serving_default, "images": classifier.images},
    )
    _with_softmax(model).save(folder / "model.keras")
    storage.write_json(folder / "labels.json", classes)
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    storage.write_text(folder / "model_card.md", _card(classes, image_size, card, created))
    dataset = card.get("dataset", {})
    export.write_about(
        folder,
        name=str(card.get("model", model.name)),
        created=created,
        classes=classes,
        image_size=image_size,
        resize=resize,
        metrics={split: _figures(card.get(split, {})) for split in ("val", "test")},
        dataset={"name": dataset.get("name"), "fingerprint": dataset.get("fingerprint")},
    )


def _with_softmax(model: keras.Model) -> keras.Model:
    """The same layers and weights, with probabilities (float32) as the output."""
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(model.outputs[0])
    return keras.Model(model.inputs[0], probabilities, name=model.name)


def _figures(split: Mapping[str, Any]) -> dict[str, Any]:
    """The plain figures of a split; tables and curves belong to the report."""
    return {key: value for key, value in split.items() if isinstance(value, int | float | str)}


def _card(classes: list[str], image_size: int, card: Mapping[str, Any], created: str) -> str:
    dataset = card.get("dataset", {})
    name = card.get("model", "model")
    lines = [f"# {name}: an image classifier of {len(classes)} classes", ""]
    lines += [f"Trained on the data set `{dataset.get('name', 'unknown')}`; exported {created}.", ""]
    lines += ["## What it answers", "", f"One of: {_listing(classes)}.", ""]
    lines += [
        f"It sees every image as {image_size} × {image_size} pixels in colour. It always names one of these classes, "
        "also for an image that shows none of them.",
        "",
    ]
    lines += ["## How good it is", "", *_metrics_table(card), ""]
    lines += ["## Data", "", *(f"- {key}: {_plain(value)}" for key, value in dataset.items()), ""]
    lines += ["## Limits", ""]
    lines += [
        "- The figures hold for images like those of the data set; other cameras, light or crops can do worse.",
        "- The confidence is the model's own probability; it does not tell how unlike the training images an image is.",
        "- Faults and imbalances of the data set's labels are learned with it.",
        "",
    ]
    lines += ["## How to use it", "", *_usage(), ""]
    lines += ["## Settings of the training run", "", "```json"]
    lines += [json.dumps(card.get("config", {}), indent=2, default=str, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _usage() -> list[str]:
    return [
        "```bash",
        "python -m launch job=serve model_dir=<this folder>",
        "python -m launch job=predict model_dir=<this folder> data.path=<images> output=<result folder>",
        "```",
        "",
        "```python",
        "import json",
        "import pathlib",
        "",
        "import tensorflow as tf",
        "",
        'classify = tf.saved_model.load("saved_model").signatures["serving_default"]',
        'probabilities = classify(image_bytes=tf.constant([pathlib.Path("photo.jpg").read_bytes()]))["probabilities"]',
        'print(json.loads(pathlib.Path("labels.json").read_text())[int(tf.argmax(probabilities[0]))])',
        "```",
    ]


def _metrics_table(card: Mapping[str, Any]) -> list[str]:
    splits = {split: _figures(card.get(split, {})) for split in ("val", "test")}
    splits = {split: figures for split, figures in splits.items() if figures}
    if not splits:
        return ["Not measured."]
    names = list(dict.fromkeys(name for figures in splits.values() for name in figures))
    rows = [["split", *names], ["---"] * (len(names) + 1)]
    rows += [[split, *(_plain(figures.get(name, "")) for name in names)] for split, figures in splits.items()]
    return [f"| {' | '.join(row)} |" for row in rows]


def _listing(classes: list[str], most: int = 50) -> str:
    shown = ", ".join(classes[:most])
    return shown if len(classes) <= most else f"{shown} and {len(classes) - most} more (labels.json)"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return _listing([_plain(part) for part in value])
    return str(value)
