"""From exact counts to the numbers that describe a classifier: pure functions, NumPy only.

A share of nothing (the precision of a class that was never predicted, say) is 0, as in scikit-learn with
``zero_division=0``: a number that pulls averages down rather than hiding.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from distributed_cls.contracts.counts import ConfidenceBins, Counts, Floats, Integers
from distributed_cls.contracts.evaluation_counts import ProbabilityCounts
from distributed_cls.contracts.summary import SplitEntry


@dataclass(frozen=True)
class ClassScores:
    """Scores of every class. Arrays of shape (classes,): float64 in [0, 1], and int64 numbers of images."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Integers  # images that truly are of the class
    predicted: Integers  # images that were predicted as the class


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1 averaged over classes, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Pair:
    """``count`` images of class ``true`` were predicted as ``predicted``: ``share`` of the class, in (0, 1]."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Calibration:
    """How well confidence and accuracy agree.

    ``error`` is the expected calibration error, in [0, 1]. ``bias`` is mean confidence less accuracy: above 0 the model
    is overconfident. The arrays have shape (bins,): images, their accuracy, and their mean confidence
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
    shares: Floats = np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)
    return shares


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
    """Mean recall of the classes that occur: always predicting the most frequent class does not raise it."""
    occurs = scores.support > 0
    return float(scores.recall[occurs].mean()) if occurs.any() else 0.0


def majority_share(scores: ClassScores) -> float:
    """Accuracy of always predicting the most frequent class: the baseline of a classifier."""
    return float(share(scores.support.max(initial=0), scores.support.sum()))


def calibration(bins: ConfidenceBins) -> Calibration:
    """Expected calibration error from summed bins of confidence: the mean gap between confidence and accuracy.

    Guo et al. (2017), "On calibration of modern neural networks", equation 3.
    """
    count, correct, confidence = bins.count, bins.correct.astype(np.float64), bins.confidence
    return Calibration(
        error=float(share(np.abs(confidence - correct).sum(), count.sum())),
        bias=float(share((confidence - correct).sum(), count.sum())),
        count=count,
        accuracy=share(correct, count),
        confidence=share(confidence, count),
    )


def confused_pairs(confusion: ArrayLike, limit: int = 10) -> list[Pair]:
    """The most frequent mistakes, most images first (then the larger share of its class, then class order)."""
    matrix = np.array(confusion, np.int64)
    shares = share(matrix, matrix.sum(axis=1, keepdims=True))
    np.fill_diagonal(matrix, 0)
    true, predicted = np.nonzero(matrix)
    order = np.lexsort((predicted, true, -shares[true, predicted], -matrix[true, predicted]))[:limit]
    return [
        Pair(int(row), int(column), int(matrix[row, column]), float(shares[row, column]))
        for row, column in zip(true[order], predicted[order], strict=True)
    ]


def roc_auc(ordered_pairs: ArrayLike, support: Integers) -> Floats:
    """Area under the ROC curve of each class against all others, [classes]; NaN for a class that has none, or all.

    ``ordered_pairs`` as in ``ProbabilityCounts``. Hanley and McNeil (1982), "The meaning and use of the area under a
    receiver operating characteristic (ROC) curve".
    """
    pairs = support * (support.sum() - support)
    return np.where(pairs > 0, share(ordered_pairs, pairs), np.nan)


def mean_area(areas: Floats) -> float | None:
    """Macro one-vs-rest ROC AUC: the mean over the classes that have one; None when none has."""
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else None


def bootstrap_interval(
    successes: int, trials: int, confidence: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a proportion: all trials are drawn again, with replacement, ``draws`` times.

    How many successes a draw has follows a binomial distribution, so that only the two counts are needed. The same
    counts give the same interval; (0, 1) without trials. Where every trial is a success it has no width, which
    ``wilson_interval`` has. Efron and Tibshirani (1993), "An introduction to the bootstrap", chapter 13.
    """
    if trials == 0:
        return 0.0, 1.0
    drawn = np.random.default_rng(0).binomial(trials, successes / trials, draws) / trials
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def split_entry(counts: Counts, probabilities: ProbabilityCounts | None = None) -> SplitEntry:
    """The entry of one split in ``summary.json``."""
    scores = class_scores(counts.confusion)
    entry = SplitEntry(
        examples=counts.examples,
        correct=counts.correct,
        accuracy=counts.accuracy,
        accuracy_interval=list(wilson_interval(counts.correct, counts.examples)),
        loss=counts.loss if math.isfinite(counts.loss) else None,
        top_k=counts.top_k,
        top_k_accuracy=float(share(counts.top_k_correct, counts.examples)),
        balanced_accuracy=balanced_accuracy(scores),
        macro_f1=macro_average(scores).f1,
        calibration_error=calibration(counts.bins).error,
        accuracy_bootstrap=list(bootstrap_interval(counts.correct, counts.examples)),
    )
    if probabilities is None:
        return entry
    unscaled_loss = float(share(probabilities.unscaled_loss_sum, counts.examples))
    return replace(
        entry,
        roc_auc=mean_area(roc_auc(probabilities.ordered_pairs, scores.support)),
        unscaled_loss=unscaled_loss if math.isfinite(unscaled_loss) else None,
        unscaled_calibration_error=calibration(probabilities.unscaled_bins).error,
        coverage=float(share(probabilities.accepted, counts.examples)),
        accepted_accuracy=float(share(probabilities.accepted_correct, probabilities.accepted)),
    )
