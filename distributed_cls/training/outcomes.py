"""Per-example results of a rank become counts, and its most confident mistakes become pictures."""

import base64
import copy
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.contracts.counts import BINS, ConfidenceBins, Counts
from distributed_cls.contracts.events import Mistake
from distributed_cls.training.input import Source

GALLERY = 24


class Predictions:
    """Results of one rank for its examples of a split, in stored order, padding removed.

    All arrays are [examples], except ``classes`` and ``probabilities`` of the most probable classes, which are
    [examples, ≤ 5], best first. ``columns``: label, weight, classes, probabilities, loss, whether the label is among
    the most probable classes, and where they were asked for the logits of all classes, each [steps, rank batch, …].
    """

    def __init__(self, columns: tuple[NDArray[Any], ...]) -> None:
        labels, weights, classes, probabilities, losses, in_top_k, *logits = columns
        mask = weights > 0  # [steps, batch], so each column's first two axes become one
        self.labels, self.losses, self.in_top_k = labels[mask], losses[mask], in_top_k[mask]
        self.classes, self.probabilities = classes[mask].astype(np.int64), probabilities[mask]
        self.predicted, self.confidence = self.classes[:, 0], self.probabilities[:, 0]
        self.logits: NDArray[np.float32] | None = logits[0][mask] if logits else None  # [examples, classes]

    def scaled(self, temperature: float) -> "Predictions":
        """What softmax(logits / temperature) makes of them; the classes stay. Only where the logits were kept."""
        assert self.logits is not None
        if temperature == 1:
            return self
        scaled = copy.copy(self)
        scaled.logits = self.logits / np.float32(temperature)
        probabilities, rows = scaled.all_probabilities(), np.arange(len(self.labels))
        scaled.probabilities = np.take_along_axis(probabilities, self.classes, 1)
        scaled.confidence = scaled.probabilities[:, 0]
        shifted = scaled._shifted()  # a probability may be 0, its logarithm is not
        scaled.losses = np.log(np.exp(shifted).sum(1)) - shifted[rows, self.labels]
        return scaled

    def energies(self) -> NDArray[np.float64]:
        """The energy score of each example (``contracts/confidence.py``); only where the logits were kept."""
        assert self.logits is not None
        scores: NDArray[np.float32] = self.logits.max(1) + np.log(np.exp(self._shifted()).sum(1))
        return scores.astype(np.float64)

    def all_probabilities(self) -> NDArray[np.float32]:
        """Of every class, float32 [examples, classes]; only where the logits were kept."""
        shifted = np.exp(self._shifted())
        shares: NDArray[np.float32] = shifted / shifted.sum(1, keepdims=True)
        return shares

    def _shifted(self) -> NDArray[np.float32]:
        """The logits, each less its row's highest."""
        assert self.logits is not None
        shifted: NDArray[np.float32] = self.logits - self.logits.max(1, keepdims=True)
        return shifted

    def counts(self, num_classes: int) -> Counts:
        """The counts of this rank's examples."""
        confusion = np.bincount(self.labels * num_classes + self.predicted, minlength=num_classes * num_classes)
        correct = self.predicted == self.labels
        bins = np.clip(np.ceil(self.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        return Counts(
            confusion.reshape(num_classes, num_classes),
            loss_sum=float(self.losses.sum(dtype=np.float64)),
            top_k_correct=int(self.in_top_k.sum()),
            bins=ConfidenceBins(
                np.bincount(bins, minlength=BINS),
                np.bincount(bins, weights=correct, minlength=BINS).astype(np.int64),
                np.bincount(bins, weights=self.confidence, minlength=BINS).astype(np.float64),
            ),
        )

    def most_confident_errors(self) -> NDArray[np.int64]:
        """Positions of the mistakes with the highest confidence, highest first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:GALLERY]


def encode_mistakes(source: Source, predictions: Predictions) -> tuple[Mistake, ...]:
    """The most confident mistakes of a rank's part of a split, with their images as PNG."""
    positions = predictions.most_confident_errors()
    wanted = {int(position) for position in positions}
    if not wanted:
        return ()
    stored = enumerate(source.serialized().take(max(wanted) + 1))
    found = {position: serialized for position, serialized in stored if position in wanted}
    items = []
    for position in positions:
        image, label = source.decode(found[int(position)])
        key = tf.io.parse_single_example(found[int(position)], {"key": tf.io.FixedLenFeature([], tf.string)})["key"]
        assert int(label) == predictions.labels[position]
        items.append(
            Mistake(
                image=base64.b64encode(tf.io.encode_png(image).numpy()).decode("ascii"),
                key=key.numpy().hex(),
                true=int(label),
                predicted=int(predictions.predicted[position]),
                confidence=float(predictions.confidence[position]),
            )
        )
    return tuple(items)
