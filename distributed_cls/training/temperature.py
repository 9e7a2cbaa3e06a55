"""Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"), fitted on all ranks together.

The probabilities become softmax(logits / T): their order stays, and with it every predicted class. T minimises the
cross-entropy of the val split. Where each of its images is right, that would be T = 0 and a confidence of 1 for
everything; so the targets are those of Platt (1999, "Probabilistic outputs for support vector machines", section 2.2):
an image is of its class with (n + 1) / (n + 2) and of the likeliest other class with 1 / (n + 2), n being the number of
images. That is one mistake more in all of them, and nothing for large n.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.01, 100.0  # of a temperature; beyond them a model is hopeless, or knows everything
_ROWS = 8192  # that are in float64 at one time
_TOLERANCE, _MOST_ROUNDS = 1e-7, 60

SumOverRanks = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def fit_temperature(
    logits: NDArray[np.float32], labels: NDArray[np.int64], sum_over_ranks: SumOverRanks = lambda values: values
) -> float:
    """The temperature of all ranks' examples: this rank has ``logits`` [examples, classes] and ``labels`` [examples].

    1.0 where nothing can be fitted: one class, no example, logits that are all alike or not finite. The loss is convex
    in 1 / T; its root is found by Newton's method within a bracket. The sums, and so every step, are the same on all
    ranks.
    """
    examples = float(sum_over_ranks(np.array([float(len(labels))]))[0])
    if logits.shape[1] < 2 or not examples:
        return 1.0
    target = sum_over_ranks(np.array([_target_sum(logits, labels, examples)]))[0]

    def slope_and_curvature(inverse: float) -> tuple[float, float]:
        mean, variance = sum_over_ranks(_moments(logits, inverse))
        return float(mean - target), float(variance)

    low, high = 1 / HIGHEST, 1 / LOWEST
    slope, curvature = slope_and_curvature(low)
    if not np.isfinite([slope, target]).all() or curvature <= 0:
        return 1.0
    if slope >= 0:
        return HIGHEST
    if slope_and_curvature(high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_MOST_ROUNDS):
        slope, curvature = slope_and_curvature(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else low
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - inverse) <= _TOLERANCE * inverse:
            return 1 / following
        inverse = following
    return 1 / inverse


def _target_sum(logits: NDArray[np.float32], labels: NDArray[np.int64], examples: float) -> float:
    """The sum of the logits, each less its row's highest, weighted by Platt's targets."""
    centred = logits.astype(np.float64) - logits.max(1, keepdims=True)
    own = centred[np.arange(len(labels)), labels]
    centred[np.arange(len(labels)), labels] = -np.inf
    return float(((examples + 1) * own + centred.max(1)).sum() / (examples + 2))


def _moments(logits: NDArray[np.float32], inverse: float) -> NDArray[np.float64]:
    """Sums over the examples of the mean and of the variance of an example's logits under softmax(inverse · logits)."""
    sums = np.zeros(2)
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS].astype(np.float64)
        part -= part.max(1, keepdims=True)
        shares = np.exp(inverse * part)
        shares /= shares.sum(1, keepdims=True)
        means = (shares * part).sum(1)
        sums += means.sum(), ((shares * part**2).sum(1) - means**2).sum()
    return sums


def acceptance_threshold(scores: NDArray[np.float64], coverage: float) -> float | None:
    """The score that at least the share ``coverage`` of ``scores`` [examples] reaches; None when all must.

    It lies halfway to the next lower one, so that the last digit of a score, which depends on the machine, decides
    nothing. Geifman and El-Yaniv (2017), "Selective classification for deep neural networks".
    """
    ordered = np.sort(scores)[::-1]
    accepted = int(np.ceil(coverage * len(ordered) - 1e-9))  # 0.95 · 20 is no more than 19
    if accepted >= len(ordered):
        return None
    return float((ordered[accepted - 1] + ordered[accepted]) / 2)
