"""How well the probability of a class ranks images, counted over all ranks: what an exact ROC AUC is computed from.

The area under a class's ROC curve is the share of pairs (an image of the class, an image of another one) in which the
first one has the higher probability of the class; equal ones count one half (Hanley and McNeil 1982, "The meaning and
use of the area under a receiver operating characteristic (ROC) curve"). Each rank is told one number per image of the
split, the probability of its true class, and counts the pairs with its own images of other classes. Sums over the
ranks are exact, and no rank holds all probabilities.
"""

import numpy as np
from numpy.typing import NDArray


def ordered_pairs(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    every_label: NDArray[np.int64],
    every_true_probability: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Of each class, the rightly ordered pairs of any image of it and an image of this rank of another class.

    ``probabilities`` [examples, classes] and ``labels`` [examples] are this rank's; ``every_label`` and
    ``every_true_probability`` [all examples] are those of all ranks. float64 [classes], multiples of 0.5.
    """
    pairs = np.zeros(probabilities.shape[1])
    order = np.lexsort((every_true_probability, every_label))  # by class, then from the lowest probability up
    ends = np.cumsum(np.bincount(every_label, minlength=len(pairs)))
    for label, members in enumerate(np.split(every_true_probability[order], ends[:-1])):
        others = probabilities[labels != label, label]
        lower = np.searchsorted(members, others, "left")
        lower_or_equal = np.searchsorted(members, others, "right")
        pairs[label] = (len(members) - (lower + lower_or_equal) / 2).sum()
    return pairs
