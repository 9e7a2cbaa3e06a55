"""What a row of probabilities means in words; the same for every way of use."""

import numpy as np


def top(probabilities: np.ndarray, classes: list[str], k: int) -> list[tuple[str, float]]:
    """The ``k`` likeliest classes of one image, likeliest first, with their probabilities.

    ``probabilities`` is float32 [K] and ``classes`` are its K names. Equal probabilities keep the classes' order.
    """
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(classes[index], float(probabilities[index])) for index in order]
