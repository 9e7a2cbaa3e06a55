"""Exact counts of an evaluated split: sums over images, so that ranks are added and averages are never averaged."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distributed_cls.contracts import codec

TOP_K = 5
BINS = 15  # equal-width bins of confidence over (0, 1]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_HEAD = 4  # plain numbers at the start of ``to_vector``


@dataclass(frozen=True)
class ConfidenceBins:
    """Per bin of confidence, float64 or int64 [BINS]: images, how many are right, and the sum of their confidences."""

    count: Integers = field(default_factory=lambda: np.zeros(BINS, np.int64))
    correct: Integers = field(default_factory=lambda: np.zeros(BINS, np.int64))
    confidence: Floats = field(default_factory=lambda: np.zeros(BINS, np.float64))

    def __add__(self, other: "ConfidenceBins") -> "ConfidenceBins":
        return ConfidenceBins(
            self.count + other.count, self.correct + other.correct, self.confidence + other.confidence
        )

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name).tolist() for name in ("count", "correct", "confidence")}

    @staticmethod
    def from_plain(content: Any) -> "ConfidenceBins":
        """From ``to_plain``. Raises ValueError."""
        try:
            count, correct, confidence = (
                np.array(content[name], np.float64) for name in ("count", "correct", "confidence")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected bins of confidence, received {error!r}") from None
        return ConfidenceBins(count.astype(np.int64), correct.astype(np.int64), confidence)


@dataclass(frozen=True)
class Counts:
    """What every metric of a split is computed from.

    ``confusion`` is int64 [classes, classes], rows the true and columns the predicted classes. ``top_k_correct`` counts
    images whose class is among the ``top_k`` most probable ones; ``loss_sum`` is in nats.
    """

    confusion: Integers
    loss_sum: float = 0.0
    top_k_correct: int = 0
    top_k: int = TOP_K
    bins: ConfidenceBins = field(default_factory=ConfidenceBins)

    @staticmethod
    def of_nothing(classes: int) -> "Counts":
        """The counts of no image."""
        return Counts(np.zeros((classes, classes), np.int64))

    def __add__(self, other: "Counts") -> "Counts":
        assert self.top_k == other.top_k, (self.top_k, other.top_k)
        return Counts(
            self.confusion + other.confusion,
            self.loss_sum + other.loss_sum,
            self.top_k_correct + other.top_k_correct,
            self.top_k,
            self.bins + other.bins,
        )

    @property
    def classes(self) -> int:
        return len(self.confusion)

    @property
    def examples(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """In [0, 1]; 0 without images."""
        return self.correct / self.examples if self.examples else 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy of an image, nats; 0 without images."""
        return self.loss_sum / self.examples if self.examples else 0.0

    def to_vector(self) -> Floats:
        """float64 [4 + classes² + 3·BINS], which ranks sum up: exact for counts below 2^53."""
        head = [self.classes, self.top_k_correct, self.loss_sum, 1.0]
        bins = [self.bins.count, self.bins.correct, self.bins.confidence]
        return np.concatenate([head, self.confusion.ravel(), *bins]).astype(np.float64)

    @staticmethod
    def from_vector(sums: Floats) -> "Counts":
        """The counts of a sum of ``to_vector`` over ranks; the fourth number says how many were added."""
        ranks = round(float(sums[3]))
        classes = round(float(sums[0])) // ranks
        confusion, bins = np.split(sums[_HEAD:], [classes * classes])
        count, correct, confidence = bins.reshape(3, -1)
        return Counts(
            np.rint(confusion).astype(np.int64).reshape(classes, classes),
            loss_sum=float(sums[2]),
            top_k_correct=round(float(sums[1])),
            bins=ConfidenceBins(np.rint(count).astype(np.int64), np.rint(correct).astype(np.int64), confidence),
        )

    def to_plain(self) -> dict[str, Any]:
        """As JSON values, with ``examples`` and ``correct`` for readers."""
        return {
            "examples": self.examples,
            "correct": self.correct,
            "loss_sum": self.loss_sum,
            "top_k": self.top_k,
            "top_k_correct": self.top_k_correct,
            "confusion": self.confusion.tolist(),
            "bins": self.bins.to_plain(),
        }

    @staticmethod
    def from_plain(content: Any) -> "Counts":
        """From ``to_plain`` or its first version (``top5_correct``). Raises ValueError when its numbers disagree."""
        try:
            top_k, top_k_correct = content.get("top_k", 5), content.get("top_k_correct", content.get("top5_correct"))
            counts = Counts(
                np.array(content["confusion"], np.int64),
                float(content["loss_sum"]),
                int(top_k_correct),
                int(top_k),
                ConfidenceBins.from_plain(content["bins"]),
            )
            examples, correct = int(content["examples"]), int(content["correct"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected the counts of one split, received {error!r}") from None
        counts._check(examples, correct)
        return counts

    def _check(self, examples: int, correct: int) -> None:
        def expect(holds: bool, expected: str, received: object) -> None:
            if not holds:
                raise ValueError(f"expected {expected}, received {received}")

        shape = self.confusion.shape
        expect(len(shape) == 2 and shape[0] == shape[1] > 0, "a square confusion matrix", f"the shape {shape}")
        expect(bool((self.confusion >= 0).all()), "counts of at least 0", int(self.confusion.min()))
        expect(self.examples == examples, f"a confusion matrix of examples={examples} images", self.examples)
        expect(self.correct == correct, f"correct={correct} images on the diagonal", self.correct)
        expect(
            correct <= self.top_k_correct <= examples, f"top_k_correct from {correct} to {examples}", self.top_k_correct
        )
        lengths = {len(values) for values in (self.bins.count, self.bins.correct, self.bins.confidence)}
        expect(len(lengths) == 1, "bins of one length", sorted(lengths))
        expect(int(self.bins.count.sum()) <= examples, f"bins of at most {examples} images", int(self.bins.count.sum()))


codec.register(ConfidenceBins, ConfidenceBins.to_plain, ConfidenceBins.from_plain)
codec.register(Counts, Counts.to_plain, Counts.from_plain)
