"""From exact counts to the numbers that describe a classifier: pure functions, NumPy only.

``counts`` is what the ranks of a run agree on for one split, after summing over all of them (never an average of
averages)::

    {"split": "test", "examples": 270, "correct": 268, "loss_sum": 12.3, "top5_correct": 270,
     "confusion": [[...], ...],      # (classes, classes) int; rows are true classes, columns predicted ones
     "bins": {"count": [...], "correct": [...], "confidence": [...]},   # equal-width bins of confidence over (0, 1]
     "mistakes": [...], "hits": [...]}                                  # single images, optional

A share of nothing (the precision of a class that was never predicted, say) is 0, as in scikit-learn with
``zero_division=0``: a number that pulls averages down rather than hiding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distributed_cls.errors import UserError

Counts = Mapping[str, Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Scores of every class. Arrays of shape (classes,): float64 in [0, 1], and int64 numbers of images."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Integers  # images that truly are of the class
    predicted: Integers  # images that were called so


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1 averaged over classes, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Pair:
    """``count`` images of class ``true`` were called ``predicted``; that is ``share`` of the class, in (0, 1]."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be believed.

    ``error`` is the expected calibration error, in [0, 1]. ``bias`` is mean confidence less accuracy: above 0 the model
    is surer than it should be. The arrays have shape (bins,): images, their accuracy, and their mean confidence
    (0 in an empty bin).
    """

    error: float
    bias: float
    count: Integers
    accuracy: Floats
    confidence: Floats


def share(part: ArrayLike, whole: ArrayLike) -> Floats:
    """``part / whole`` element by element, and 0 where ``whole`` is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion that keeps its promise near 0 and 1 and for few trials; (0, 1) without trials.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    proportion, spread = successes / trials, z * z / trials
    centre = proportion + spread / 2
    half_width = z * math.sqrt(proportion * (1 - proportion) / trials + spread / (4 * trials))
    # At 0 and at all successes the exact bound is 0 and 1; rounding must not push it beyond.
    low = 0.0 if successes == 0 else (centre - half_width) / (1 + spread)
    high = 1.0 if successes == trials else (centre + half_width) / (1 + spread)
    return low, high


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Precision, recall, F1 and support of each class, from a confusion matrix (classes, classes) of int."""
    matrix = np.asarray(confusion, np.int64)
    right, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return ClassScores(
        precision=share(right, predicted),
        recall=share(right, support),
        f1=share(2 * right, support + predicted),
        support=support,
        predicted=predicted,
    )


def macro_average(scores: ClassScores) -> Average:
    """Every class counts the same. Classes that neither occur nor were predicted stay out, as in scikit-learn."""
    seen = (scores.support + scores.predicted) > 0
    if not seen.any():
        return Average(0.0, 0.0, 0.0)
    return Average(*(float(values[seen].mean()) for values in (scores.precision, scores.recall, scores.f1)))


def weighted_average(scores: ClassScores) -> Average:
    """Every image counts the same: classes are weighted by their support."""
    total = scores.support.sum()
    return Average(
        *(float(share(values @ scores.support, total)) for values in (scores.precision, scores.recall, scores.f1))
    )


def balanced_accuracy(scores: ClassScores) -> float:
    """Mean recall of the classes that occur: what guessing the commonest class cannot improve."""
    occurs = scores.support > 0
    return float(scores.recall[occurs].mean()) if occurs.any() else 0.0


def majority_share(scores: ClassScores) -> float:
    """Accuracy of always answering the commonest class: the score that a model must beat."""
    return float(share(scores.support.max(initial=0), scores.support.sum()))


def calibration(bins: Mapping[str, Any]) -> Calibration:
    """Expected calibration error from summed bins of confidence: the mean gap between confidence and accuracy.

    Guo et al. (2017), "On calibration of modern neural networks", equation 3.
    """
    count = np.asarray(bins["count"], np.int64)
    correct = np.asarray(bins["correct"], np.float64)
    confidence = np.asarray(bins["confidence"], np.float64)
    return Calibration(
        error=float(share(np.abs(confidence - correct).sum(), count.sum())),
        bias=float(share((confidence - correct).sum(), count.sum())),
        count=count,
        accuracy=share(correct, count),
        confidence=share(confidence, count),
    )


def confused_pairs(confusion: ArrayLike, limit: int = 10) -> list[Pair]:
    """The commonest mistakes, most images first (then the larger share of its class, then class order)."""
    matrix = np.array(confusion, np.int64)
    shares = share(matrix, matrix.sum(axis=1, keepdims=True))
    np.fill_diagonal(matrix, 0)
    true, predicted = np.nonzero(matrix)
    order = np.lexsort((predicted, true, -shares[true, predicted], -matrix[true, predicted]))[:limit]
    return [
        Pair(int(row), int(column), int(matrix[row, column]), float(shares[row, column]))
        for row, column in zip(true[order], predicted[order], strict=True)
    ]


def summary_entry(counts: Counts) -> dict[str, Any]:
    """The entry of one split in ``summary.json``: plain numbers, in [0, 1] but for counts and the loss.

    ``loss`` is the mean per image, in nats, and None when it is not finite: JSON knows neither NaN nor infinity.
    """
    examples, correct = int(counts["examples"]), int(counts["correct"])
    loss = float(share(counts["loss_sum"], examples))
    scores = class_scores(counts["confusion"])
    low, high = wilson_interval(correct, examples)
    return {
        "examples": examples,
        "correct": correct,
        "accuracy": correct / examples if examples else 0.0,
        "accuracy_interval": [low, high],
        "loss": loss if math.isfinite(loss) else None,
        "top5_accuracy": float(share(counts["top5_correct"], examples)),
        "balanced_accuracy": balanced_accuracy(scores),
        "macro_f1": macro_average(scores).f1,
        "calibration_error": calibration(counts["bins"]).error,
    }


def check_counts(counts: Any, classes: int, where: str) -> None:
    """Raise ``UserError`` unless ``counts`` is whole and its numbers agree; ``where`` names it in the message."""
    remedy = "The file is damaged or of another version: run job=evaluate again."
    try:
        matrix = np.array(counts["confusion"], np.int64)
        bins = [np.array(counts["bins"][key], np.float64) for key in ("count", "correct", "confidence")]
        examples, correct, top = (int(counts[key]) for key in ("examples", "correct", "top5_correct"))
        float(counts["loss_sum"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"Expected {where} to hold the counts of one split. Received: {error!r}. {remedy}") from error

    def expect(holds: bool, expected: str, received: object) -> None:
        if not holds:
            raise UserError(f"Expected {where} to hold {expected}. Received: {received}. {remedy}")

    expect(matrix.shape == (classes, classes), f"a confusion matrix of shape {(classes, classes)}", matrix.shape)
    expect(int(matrix.min(initial=0)) >= 0, "counts of at least 0", int(matrix.min(initial=0)))
    expect(int(matrix.sum()) == examples, f"a confusion matrix of examples={examples} images", int(matrix.sum()))
    expect(int(np.trace(matrix)) == correct, f"correct={correct} images on the diagonal", int(np.trace(matrix)))
    expect(correct <= top <= examples, f"top5_correct from {correct} to {examples}", top)
    expect(len({len(values) for values in bins}) == 1, "bins of one length", [len(values) for values in bins])
    expect(bins[0].sum() <= examples, f"bins of at most {examples} images", int(bins[0].sum()))
