"""Temperature and threshold against SciPy's optimiser, on logits that are made and on a real overconfident model."""

import gzip
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from distributed_cls.evaluation.metrics import calibration
from distributed_cls.training.outcomes import Predictions
from distributed_cls.training.temperature import HIGHEST, LOWEST, acceptance_threshold, fit_temperature

from .test_outcomes import _columns
from .threads import SumOfThreads

_FASHION = Path("/usr/share/datasets/fashion-mnist")


def made(examples: int, scale: float, seed: int = 0, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are ``scale`` times those that the labels were drawn by: the right temperature is ``scale``."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(examples, classes))
    labels = (softmax(logits, axis=1).cumsum(1) < random.random((examples, 1))).sum(1)
    return (scale * logits).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_scipy_and_of_the_labels(scale: float) -> None:
    logits, labels = made(3000, scale)
    targets, rows = np.zeros(logits.shape), np.arange(3000)
    others = np.where(np.eye(6, dtype=bool)[labels], -np.inf, logits)
    targets[rows, others.argmax(1)], targets[rows, labels] = 1 / 3002, 3001 / 3002
    found = minimize_scalar(
        lambda log: -(targets * log_softmax(logits / np.exp(log), axis=1)).sum(), (-2, 2), tol=1e-10
    )
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(float(np.exp(found.x)), rel=1e-5)
    assert temperature == pytest.approx(scale, rel=0.1)
    plain = minimize_scalar(lambda log: log_loss(labels, softmax(logits / np.exp(log), axis=1)), (-2, 2), tol=1e-10)
    assert temperature == pytest.approx(float(np.exp(plain.x)), rel=0.01)  # Platt's one image in 3,000


def test_ranks_find_together_what_one_finds_alone() -> None:
    logits, labels = made(700, 3.0)
    parts = [slice(0, 300), slice(300, 300), slice(300, 700)]  # one rank has no example
    total = SumOfThreads(3)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda part: fit_temperature(logits[part], labels[part], total), parts))
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_where_every_image_is_right_confidence_stays_below_one() -> None:
    logits, _ = made(200, 1.0)
    labels = logits.argmax(1)
    temperature = fit_temperature(logits, labels)
    assert LOWEST < temperature < 1
    confidence = softmax(logits / temperature, axis=1).max(1).mean()
    assert 0.95 < confidence < 201 / 202


def test_what_cannot_be_fitted_is_left_as_it_is() -> None:
    logits, labels = made(50, 1.0)
    assert fit_temperature(np.zeros_like(logits), labels) == 1.0
    assert fit_temperature(np.full_like(logits, np.nan), labels) == 1.0
    assert fit_temperature(logits[:, :1], np.zeros(50, int)) == 1.0
    assert fit_temperature(logits[:0], labels[:0]) == 1.0
    assert fit_temperature(logits, logits.argmin(1)) == HIGHEST  # always wrong: as unsure as it may be


def fashion(split: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``images`` of Fashion-MNIST: float64 [images, 784] in [0, 1], int64 [images]."""
    if not _FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not here")
    found = []
    for kind, head, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
        with gzip.open(_FASHION / f"{split}-{kind}-ubyte.gz") as stream:
            found.append(np.frombuffer(stream.read(head + size * images)[head:], np.uint8))
    return found[0].reshape(images, 784) / 255, found[1].astype(np.int64)


def test_an_overconfident_model_is_calibrated_on_clothes_that_the_fit_did_not_see() -> None:
    network = MLPClassifier([32], alpha=0, learning_rate_init=0.01, max_iter=40, n_iter_no_change=40, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(*fashion("train", 800))
    images, labels = fashion("t10k", 3000)
    logits = np.log(np.maximum(network.predict_proba(images), 1e-30)).astype(np.float32)
    temperature = fit_temperature(logits[:1000], labels[:1000])
    held_out = Predictions((*_columns(labels[1000:], logits[1000:], np.ones(2000)), logits[1000:].reshape(-1, 10, 10)))
    before, after = held_out.counts(10), held_out.scaled(temperature).counts(10)
    errors = [calibration(counts.bins).error for counts in (before, after)]
    assert errors[0] > 0.08 and errors[1] <= errors[0] / 2, errors
    np.testing.assert_array_equal(before.confusion, after.confusion)
    assert after.top_k_correct == before.top_k_correct
    expected = softmax(logits[1000:] / temperature, axis=1)
    assert after.loss == pytest.approx(log_loss(labels[1000:], expected), rel=1e-4)
    np.testing.assert_allclose(held_out.scaled(temperature).all_probabilities(), expected, atol=1e-6)
    energies = logsumexp(logits[1000:].astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(held_out.scaled(temperature).energies(), energies, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_the_threshold_keeps_its_coverage_on_images_that_it_was_not_fitted_on(coverage: float) -> None:
    logits, _ = made(8000, 1.0, seed=3)
    confidence = softmax(logits, axis=1).max(1).astype(np.float64)
    threshold = acceptance_threshold(confidence[:4000], coverage)
    assert threshold is not None
    assert (confidence[:4000] >= threshold).mean() == pytest.approx(coverage, abs=1e-9)
    assert (confidence[4000:] >= threshold).mean() == pytest.approx(coverage, abs=0.02)


def test_a_threshold_lies_between_two_confidences() -> None:
    assert acceptance_threshold(np.array([0.2, 0.9, 0.4, 0.6]), 0.5) == pytest.approx(0.5)
    assert acceptance_threshold(np.linspace(0.05, 1, 20), 0.95) == pytest.approx(0.075)  # 0.95 · 20 is 19
    assert acceptance_threshold(np.array([0.2, 0.9]), 1.0) is None
