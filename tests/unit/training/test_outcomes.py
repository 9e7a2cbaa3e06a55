"""Counts of the ranks, summed, against scikit-learn on all examples at once."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score, top_k_accuracy_score

from distributed_cls.contracts.counts import BINS, Counts
from distributed_cls.evaluation import metrics
from distributed_cls.training.outcomes import GALLERY, Predictions
from distributed_cls.training.pair_order import ordered_pairs

CLASSES = 7


def _columns(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """What ``Evaluator.evaluate_call`` gives for these logits, in NumPy; shaped [steps, batch]."""
    probabilities = softmax(logits, axis=1)
    own = probabilities[np.arange(len(labels)), labels]
    top = (logits > logits[np.arange(len(labels)), labels][:, None]).sum(1) < 5
    most_probable = np.argsort(-logits, axis=1)[:, :5].astype(np.int32)
    of_those = np.take_along_axis(probabilities, most_probable, 1)
    columns = labels, weights, most_probable, of_those, -np.log(own), top
    return tuple(column.reshape(-1, 10, *column.shape[1:]) for column in columns)


@pytest.fixture(scope="module")
def examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 300)
    logits = random.normal(size=(300, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    weights = np.ones(300, np.float32)
    weights[140:150], weights[270:] = 0, 0  # the padding of two ranks
    return labels, logits, weights


def test_sums_over_ranks_are_those_of_all_examples(examples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, logits, weights = examples
    parts = [slice(0, 150), slice(150, 300)]
    counts = [Predictions(_columns(labels[part], logits[part], weights[part])).counts(CLASSES) for part in parts]
    summed = Counts.from_vector(counts[0].to_vector() + counts[1].to_vector())
    result = summed.to_plain()
    real = weights > 0
    labels, logits = labels[real], logits[real]
    probabilities, predicted = softmax(logits, axis=1), logits.argmax(1)
    assert result["examples"] == 260
    assert result["correct"] == accuracy_score(labels, predicted, normalize=False)
    assert result["top_k_correct"] == top_k_accuracy_score(labels, logits, k=5, normalize=False)
    assert result["loss_sum"] == pytest.approx(log_loss(labels, probabilities, normalize=False), rel=1e-9)
    np.testing.assert_array_equal(result["confusion"], confusion_matrix(labels, predicted))
    confidence = probabilities.max(1)
    edges = np.linspace(0, 1, BINS + 1)
    assert result["bins"]["count"] == np.histogram(confidence, edges)[0].tolist()
    assert result["bins"]["correct"] == np.histogram(confidence[predicted == labels], edges)[0].tolist()
    np.testing.assert_allclose(result["bins"]["confidence"], np.histogram(confidence, edges, weights=confidence)[0])
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("digits", [6, 1])  # with one digit most probabilities are equal to others
def test_pairs_counted_by_each_rank_make_the_roc_auc_of_all_examples(digits: int) -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, CLASSES - 1, 400)  # the last class has no image
    probabilities = softmax(random.normal(size=(400, CLASSES)) + np.eye(CLASSES)[labels], axis=1).round(digits)
    own = probabilities[np.arange(400), labels]
    parts = [slice(0, 150), slice(150, 151), slice(151, 400), slice(400, 400)]  # the last rank has no image
    pairs = sum(ordered_pairs(probabilities[part], labels[part], labels, own) for part in parts)
    areas = metrics.roc_auc(pairs, np.bincount(labels, minlength=CLASSES))
    expected = [roc_auc_score(labels == label, probabilities[:, label]) for label in range(CLASSES - 1)]
    np.testing.assert_allclose(areas[:-1], expected, rtol=1e-12)
    assert np.isnan(areas[-1])
    assert metrics.mean_area(areas) == pytest.approx(np.mean(expected), rel=1e-12)


def test_certain_and_hopeless_confidences_fall_into_the_outer_bins() -> None:
    ones, zeros = np.ones((1, 2)), np.zeros((1, 2), int)
    predictions = Predictions((zeros, ones, zeros[..., None], np.array([[[1.0], [0.0]]]), ones, ones > 0))
    assert predictions.counts(1).bins.count.tolist() == [1] + [0] * (BINS - 2) + [1]


def test_the_most_confident_mistakes_come_first() -> None:
    random = np.random.default_rng(1)
    labels, predicted = random.integers(0, 3, 200), random.integers(0, 3, 200)
    confidence = random.random(200)
    ones = np.ones((1, 200))
    guesses, probabilities = predicted[None, :, None], confidence[None, :, None]
    chosen = Predictions((labels[None], ones, guesses, probabilities, ones, ones > 0)).most_confident_errors()
    by_hand = sorted(np.flatnonzero(labels != predicted), key=lambda at: -confidence[at])[:GALLERY]
    assert chosen.tolist() == by_hand
