"""What a model answers for an image, and what its probabilities mean in words; the same for every way of use."""

from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """What a model answers for one image."""

    probabilities: np.ndarray  # float32 [K]
    energy: float  # ``contracts/confidence.py``; not a number where the model was exported before there was one

    @property
    def confidence(self) -> float:
        """The probability of the likeliest class."""
        return float(self.probabilities.max())


def top(probabilities: np.ndarray, classes: list[str], k: int) -> list[tuple[str, float]]:
    """The ``k`` likeliest classes of one image, likeliest first, with their probabilities.

    ``probabilities`` is float32 [K] and ``classes`` are its K names. Equal probabilities keep the classes' order.
    """
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(classes[index], float(probabilities[index])) for index in order]
