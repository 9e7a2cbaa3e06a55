"""An exported model in memory: prepared pixels in, answers out."""

import math

import numpy as np
import tensorflow as tf

from distributed_cls.contracts.export import Export
from distributed_cls.errors import UserError
from distributed_cls.predictor.likeliest import Answer


def bound_threads(threads: int) -> None:
    """Let TensorFlow compute with ``threads`` threads. Without effect once TensorFlow has started in this process."""
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        # A notebook or a test may have used TensorFlow before; its own choice of threads stands.
        if "after initialization" not in str(error) and "cannot be modified" not in str(error):
            raise


class Classifier:
    """The model of ``export``, ready to answer."""

    def __init__(self, export: Export) -> None:
        self.export = export
        try:
            self._loaded = tf.saved_model.load(export.saved_model)
            signatures = self._loaded.signatures
            self._images = signatures["scored_images" if "scored_images" in signatures else "images"]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"Expected {export.saved_model} to be a TensorFlow SavedModel with the signature 'images'. "
                f"Received: {str(error).splitlines()[0]}. Export the model again."
            ) from error

    def answers(self, images: np.ndarray) -> list[Answer]:
        """Classify ``images``, uint8 [N, T, T, C] as the preparation makes them: an answer for each."""
        found = {name: column.numpy() for name, column in self._images(images=tf.constant(images)).items()}
        energies = found.get("energy", np.full(len(images), math.nan, np.float32))
        return [Answer(row, float(energy)) for row, energy in zip(found["probabilities"], energies, strict=True)]

    def warm_up(self, *batch_sizes: int) -> None:
        """Answer batches of these sizes once, so that no caller pays for the first time."""
        edge, channels = self.export.image_size, self.export.channels
        for size in batch_sizes:
            self.answers(np.zeros((size, edge, edge, channels), np.uint8))
