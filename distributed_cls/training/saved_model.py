"""The story of the exported artefact: a trained model becomes a folder that everything else is served from.

model/
  saved_model/    TensorFlow: encoded image bytes, or prepared pixels, to probabilities (and to their energy score)
  model.keras     the same as a stock Keras model, its output probabilities
  labels.json     class names in index order
  model.json      what it is, and the size and checksum of every other file
  model_card.md   the same for people
"""

import datetime
import os
from pathlib import Path

import keras
import tensorflow as tf

from distributed_cls import storage
from distributed_cls.contracts import export
from distributed_cls.contracts.run_folder import full_disk, full_disk_named
from distributed_cls.errors import UserError
from distributed_cls.images.graph import decode_images
from distributed_cls.training import model_card
from distributed_cls.training.model_card import Card


class _Classifier(tf.Module):
    """What is saved: the model's variables, and one traced function that all signatures share."""

    def __init__(self, model: keras.Model, image_size: int, resize: str, channels: int, temperature: float) -> None:
        super().__init__(name="classifier")
        # The bare variables, not the Keras model: tracking the model would write its whole object graph as well.
        self.model_variables = [variable.value for variable in model.variables]
        pixels = tf.TensorSpec([None, image_size, image_size, channels], tf.uint8, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

        @tf.function(input_signature=[pixels], autograph=False)
        def scored_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(tf.cast(images, tf.float32), training=False)
            # float32 whatever the compute policy, so that every route gives the same digits.
            scaled = tf.cast(logits, tf.float32) / temperature
            return {"probabilities": tf.nn.softmax(scaled, axis=-1), "energy": tf.reduce_logsumexp(scaled, axis=-1)}

        # With one output, TensorFlow Serving answers with plain rows of probabilities.
        @tf.function(input_signature=[pixels], autograph=False)
        def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": scored_images(images)["probabilities"]}

        @tf.function(input_signature=[encoded], autograph=False)
        def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            answered: dict[str, tf.Tensor] = images(decode_images(image_bytes, image_size, resize, channels))
            return answered

        self.scored_images = scored_images
        self.images = images
        self.serving_default = serving_default


def export_model(
    model: keras.Model,
    folder: str | os.PathLike[str],
    *,
    classes: list[str],
    image_size: int,
    card: Card,
    resize: str = "stretch",
    channels: int = 3,
) -> None:
    """Write the artefact of ``model`` to ``folder``, whole or not at all; an older one there is replaced.

    ``model`` takes images [N, image_size, image_size, channels], 0 to 255, and gives logits [N, len(classes)]; its
    variables are plain ones (no distribution strategy). ``resize`` is how the preparation made a picture square:
    stretch, crop or pad. The probabilities are those of the card's temperature. Raises UserError when the folder cannot
    be written.
    """
    assert model.output_shape[-1] == len(classes), (model.output_shape, classes)
    target = Path(folder).absolute()
    try:
        with full_disk_named(target), storage.replacing_folder(target) as temporary:
            _write(model, temporary, classes, image_size, resize, channels, card)
    except tf.errors.ResourceExhaustedError as error:
        if not any(os.strerror(number) in str(error) for number in storage.FULL):
            raise  # memory, not the disk
        raise full_disk(target) from error
    except OSError as error:
        raise UserError(
            f"Expected to write the exported model to {target}. Received: {error.strerror or error}. "
            "Choose a folder that can be written, with room for the model."
        ) from error


def _write(
    model: keras.Model, folder: Path, classes: list[str], image_size: int, resize: str, channels: int, card: Card
) -> None:
    temperature = card.confidence.temperature
    classifier = _Classifier(model, image_size, resize, channels, temperature)
    tf.saved_model.save(
        classifier,
        str(folder / "saved_model"),
        signatures={
            "serving_default": classifier.serving_default,
            "images": classifier.images,
            "scored_images": classifier.scored_images,
        },
    )
    _with_softmax(model, temperature).save(folder / "model.keras")
    storage.write_json(folder / "labels.json", classes)
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    storage.write_text(folder / "model_card.md", model_card.render(card, classes, image_size, created, channels))
    export.write_about(
        folder,
        name=card.model,
        created=created,
        classes=classes,
        image_size=image_size,
        resize=resize,
        channels=channels,
        metrics=card.finite_metrics,
        dataset={"name": card.dataset, "fingerprint": card.fingerprint},
        confidence=card.confidence,
    )


def _with_softmax(model: keras.Model, temperature: float) -> keras.Model:
    """The same layers and weights, with probabilities (float32) as the output."""
    logits = model.outputs[0]
    if temperature != 1:
        logits = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")(logits)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(model.inputs[0], probabilities, name=model.name)
