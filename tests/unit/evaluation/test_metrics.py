"""The metrics against scikit-learn and SciPy, which see every image; ours see only the summed counts."""

import warnings

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from distributed_cls.contracts.counts import ConfidenceBins, Counts
from distributed_cls.evaluation import metrics


def random_confusion(seed: int) -> np.ndarray:
    """Confusion matrices of 2 to 40 classes: sparse and dense, with absent and with never predicted classes."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 41))
    matrix = random.poisson(random.choice([0.1, 1, 5]), (classes, classes))
    matrix += np.diag(random.poisson(random.choice([0, 2, 30]), classes))
    if seed % 3 == 0:
        matrix[random.integers(classes)] = 0  # a class without images
    if seed % 4 == 0:
        matrix[:, random.integers(classes)] = 0  # a class that is never predicted
    if seed % 5 == 0:
        absent = random.integers(classes)
        matrix[absent] = matrix[:, absent] = 0
    matrix[0, 1] += 1  # never wholly empty
    return matrix


def labels_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One true and one predicted label per counted image."""
    true, predicted = np.indices(matrix.shape)
    return np.repeat(true.ravel(), matrix.ravel()), np.repeat(predicted.ravel(), matrix.ravel())


@pytest.mark.parametrize("seed", range(60))
def test_class_scores_and_averages_are_those_of_scikit_learn(seed: int) -> None:
    matrix = random_confusion(seed)
    true, predicted = labels_of(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ours must not warn
        scores = metrics.class_scores(matrix)
        averages = {"macro": metrics.macro_average(scores), "weighted": metrics.weighted_average(scores)}
        balanced = metrics.balanced_accuracy(scores)
    expected = precision_recall_fscore_support(true, predicted, labels=range(len(matrix)), zero_division=0)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    for kind, average in averages.items():
        expected = precision_recall_fscore_support(true, predicted, average=kind, zero_division=0)
        np.testing.assert_allclose((average.precision, average.recall, average.f1), expected[:3], rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (UserWarning, UndefinedMetricWarning))  # theirs does: predicted, never true
        assert balanced == pytest.approx(balanced_accuracy_score(true, predicted), rel=1e-12)


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (268, 270), (0, 40), (40, 40), (5, 7), (9990, 10000)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_is_that_of_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert metrics.wilson_interval(successes, trials, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(7, 10), (268, 270), (9180, 10000)])
def test_bootstrap_interval_is_that_of_drawn_images_and_of_scipy(successes: int, trials: int) -> None:
    low, high = metrics.bootstrap_interval(successes, trials)
    images = np.arange(trials) < successes
    by_hand = np.random.default_rng(1).choice(images, (2000, trials)).mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=1.1 / trials + 2e-3)
    exact = binom.ppf([0.025, 0.975], trials, successes / trials) / trials
    assert (low, high) == pytest.approx(tuple(exact), abs=1.1 / trials)
    assert metrics.bootstrap_interval(successes, trials) == (low, high)
    assert metrics.bootstrap_interval(0, 0) == (0.0, 1.0)
    assert metrics.bootstrap_interval(trials, trials) == (1.0, 1.0)


def test_no_class_with_both_kinds_of_images_has_no_area() -> None:
    areas = metrics.roc_auc([0.0, 0.0], np.array([5, 0]))
    assert np.isnan(areas).all() and metrics.mean_area(areas) is None


def test_nothing_observed_leaves_everything_possible() -> None:
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    scores = metrics.class_scores(np.zeros((3, 3), int))
    assert metrics.macro_average(scores) == metrics.weighted_average(scores) == metrics.Average(0, 0, 0)
    assert metrics.balanced_accuracy(scores) == metrics.majority_share(scores) == 0


def binned(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> ConfidenceBins:
    """What the ranks sum: equal-width bins of confidence, each closed above."""
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return ConfidenceBins(
        np.bincount(index, minlength=bins),
        np.bincount(index, correct, bins).astype(np.int64),
        np.bincount(index, confidence, bins),
    )


@pytest.mark.parametrize("seed", range(10))
def test_calibration_is_that_of_every_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.beta(8, 2, 500)
    correct = (random.random(500) < confidence**2).astype(float)
    found = metrics.calibration(binned(confidence, correct))
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=15)
    filled = found.count > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], mean_confidence)
    weights = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    assert found.error == pytest.approx(np.average(np.abs(accuracy - mean_confidence), weights=weights[weights > 0]))
    assert found.bias == pytest.approx(confidence.mean() - correct.mean())


def test_calibration_of_no_images_is_zero() -> None:
    found = metrics.calibration(ConfidenceBins())
    assert (found.error, found.bias) == (0, 0)


def test_confused_pairs_come_most_images_first_then_larger_share() -> None:
    matrix = [[8, 2, 0], [2, 2, 0], [3, 0, 97]]
    pairs = metrics.confused_pairs(matrix)
    assert [(pair.true, pair.predicted, pair.count) for pair in pairs] == [(2, 0, 3), (1, 0, 2), (0, 1, 2)]
    assert [pair.share for pair in pairs] == [0.03, 0.5, 0.2]
    assert len(metrics.confused_pairs(matrix, limit=1)) == 1
    assert metrics.confused_pairs([[5, 0], [0, 5]]) == []


def test_majority_share_is_what_guessing_the_commonest_class_scores() -> None:
    assert metrics.majority_share(metrics.class_scores([[6, 0], [1, 3]])) == 0.6


def counts(loss_sum: float = 2.5) -> Counts:
    bins = ConfidenceBins(np.array([4, 6]), np.array([3, 5]), np.array([2.0, 5.5]))
    return Counts(np.array([[5, 1], [1, 3]]), loss_sum, top_k_correct=10, bins=bins)


def test_the_entry_of_a_split_is_exact() -> None:
    entry = metrics.split_entry(counts())
    assert (entry.examples, entry.correct, entry.accuracy, entry.loss) == (10, 8, 0.8, 0.25)
    assert (entry.top_k, entry.top_k_accuracy) == (5, 1.0)
    assert entry.balanced_accuracy == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert entry.calibration_error == pytest.approx((1.0 + 0.5) / 10)
    assert entry.accuracy_interval[0] < 0.8 < entry.accuracy_interval[1]


@pytest.mark.parametrize("loss_sum", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_becomes_null(loss_sum: float) -> None:
    assert metrics.split_entry(counts(loss_sum)).loss is None
