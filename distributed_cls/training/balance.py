"""Balanced sampling: an epoch in which every class has as many images as the largest one.

Which records an epoch takes follows from the labels of the whole split, on every rank alike, before lanes are cut: a
rank that balanced its own part would give a class that it hardly has another weight than the others do.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_RECORDS_AT_ONCE = 4096


def balanced_records(counts: Mapping[str, int]) -> int:
    """The length of ``balanced_order`` for ``counts``, the images of each class."""
    present = [count for count in counts.values() if count]
    return len(present) * max(present, default=0)


def balanced_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The records of an epoch before it is shuffled, as numbers from 0 on in rising order: int64 [epoch].

    ``labels``: of all records of the split in stored order. The records of a class are repeated as evenly as can be,
    until it has as many as the largest class: n of them take the largest class's count / n each, rounded down or up.
    """
    counts = np.bincount(labels)
    largest = counts.max(initial=0)
    copies = np.zeros(len(labels), np.int64)
    for label, count in enumerate(counts):
        if count:
            copies[labels == label] = np.diff(np.arange(count + 1) * largest // count)
    return np.repeat(np.arange(len(labels)), copies)


def stored_labels(files: Sequence[str]) -> NDArray[np.int64]:
    """The labels of all records of TFRecord ``files``, in their order: int64 [records]."""
    feature = {"label": tf.io.FixedLenFeature([], tf.int64)}
    batches = tf.data.TFRecordDataset(list(files)).batch(_RECORDS_AT_ONCE)
    parts = [tf.io.parse_example(records, feature)["label"].numpy() for records in batches]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
