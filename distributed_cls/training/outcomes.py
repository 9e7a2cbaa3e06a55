"""Exact evaluation: per-example results of a rank become counts, and counts of the ranks are summed.

Averages are never averaged: everything that a metric needs is a sum over examples, padding has weight zero.
"""

import base64
from typing import Any

import numpy as np
import tensorflow as tf

from distributed_cls.training.engine import TOP_K
from distributed_cls.training.input import Source

BINS = 15
GALLERY = 24


class Outcomes:
    """Per-example results of one rank in stored order, padding removed.

    All arrays are [examples], but ``classes`` and ``shares``, the likeliest classes and their probabilities, which are
    [examples, ≤ 5], best first.
    """

    def __init__(self, columns: tuple[np.ndarray, ...]) -> None:
        labels, weights, classes, shares, losses, top = columns
        real = weights > 0  # [steps, batch], so each column's first two axes become one
        self.labels, self.losses, self.top = labels[real], losses[real], top[real]
        self.classes, self.shares = classes[real].astype(np.int64), shares[real]
        self.predicted, self.confidence = self.classes[:, 0], self.shares[:, 0]

    def counts(self, classes: int) -> np.ndarray:
        """float64 [4 + classes² + 3·BINS], to be summed over ranks and read by ``as_dict``."""
        confusion = np.bincount(self.labels * classes + self.predicted, minlength=classes * classes)
        correct = self.predicted == self.labels
        bins = np.clip(np.ceil(self.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        return np.concatenate(
            [
                [len(self.labels), correct.sum(), self.top.sum(), self.losses.sum(dtype=np.float64)],
                confusion,
                np.bincount(bins, minlength=BINS),
                np.bincount(bins, weights=correct, minlength=BINS),
                np.bincount(bins, weights=self.confidence, minlength=BINS),
            ]
        ).astype(np.float64)

    def surest_mistakes(self) -> np.ndarray:
        """Positions of the mistakes with the highest confidence, best first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:GALLERY]


def as_dict(split: str, sums: np.ndarray, classes: int) -> dict[str, Any]:
    """The summed counts as plain JSON values."""
    head, rest = sums[:4], sums[4:]
    confusion, bins = rest[: classes * classes], rest[classes * classes :].reshape(3, BINS)
    examples, correct, top = (round(value) for value in head[:3])
    return {
        "split": split,
        "examples": examples,
        "correct": correct,
        f"top{TOP_K}_correct": top,
        "loss_sum": float(head[3]),
        "confusion": confusion.reshape(classes, classes).round().astype(int).tolist(),
        "bins": {
            "count": bins[0].round().astype(int).tolist(),
            "correct": bins[1].round().astype(int).tolist(),
            "confidence": bins[2].tolist(),
        },
    }


def gallery(source: Source, outcomes: Outcomes, positions: np.ndarray) -> list[dict[str, Any]]:
    """The images at ``positions`` of a rank's part of a split, as PNG, with what was predicted."""
    wanted = {int(position) for position in positions}
    if not wanted:
        return []
    stored = enumerate(source.serialized().take(max(wanted) + 1))
    found = {position: serialized for position, serialized in stored if position in wanted}
    items = []
    for position in positions:
        image, label = source.decode(found[int(position)])
        key = tf.io.parse_single_example(found[int(position)], {"key": tf.io.FixedLenFeature([], tf.string)})["key"]
        assert int(label) == outcomes.labels[position]
        items.append(
            {
                "image": base64.b64encode(tf.io.encode_png(image).numpy()).decode("ascii"),
                "key": key.numpy().hex(),
                "true": int(label),
                "predicted": int(outcomes.predicted[position]),
                "confidence": float(outcomes.confidence[position]),
            }
        )
    return items
