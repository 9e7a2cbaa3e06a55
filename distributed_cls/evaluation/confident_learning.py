"""Which labels are suspected to be wrong: confident learning (Northcutt et al. 2021), NumPy only.

Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels", JAIR 70. A
probability is compared with what the model is used to give to images with that label, so that a class that it is never
sure of is not suspected as a whole. The probabilities must be out of fold: of models that did not learn the label.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distributed_cls.contracts.counts import Floats, Integers


@dataclass(frozen=True)
class Suspects:
    """What the model says to the label of each image. Arrays of shape (images,), in the order of the images.

    ``suggested`` is the most probable class other than the label. ``margin`` is the probability of the label less that
    of ``suggested``, in [-1, 1]: the lower, the more suspicious. ``suspected``: the image is confidently of another
    class.
    """

    suggested: Integers
    margin: Floats
    suspected: NDArray[np.bool_]

    @property
    def order(self) -> Integers:
        """The images from the most suspicious on, by margin: measured, that finds more than suspected ones first."""
        return np.argsort(self.margin, kind="stable")


def find_suspects(probabilities: NDArray[np.floating], labels: Integers) -> Suspects:
    """Look at out-of-fold ``probabilities`` (images, classes) of images with these ``labels`` (images,).

    An image counts as confidently of a class when the class's probability reaches its threshold, the mean probability
    that images with that label have (equation 2 of the paper); of several such classes the most probable one counts.
    """
    images, classes = probabilities.shape
    rows = np.arange(images)
    own = probabilities[rows, labels].astype(np.float64)
    of_each = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    # A label that no image has cannot be suggested with confidence.
    thresholds = np.divide(sums, of_each, out=np.full(classes, np.inf), where=of_each > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -np.inf)
    suspected = np.isfinite(confident.max(1)) & (confident.argmax(1) != labels)
    others = np.array(probabilities, np.float64)
    others[rows, labels] = -np.inf
    suggested = others.argmax(1)
    return Suspects(suggested, own - others[rows, suggested], suspected)
