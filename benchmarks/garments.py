"""The real Fashion-MNIST as arrays, for benchmarks that make data sets of their own out of it."""

import numpy as np

from distributed_cls.dataset.sources import fashion_mnist


def split(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [N, 28, 28], and labels, uint8 [N], of a part: train or t10k, its test images."""
    files = fashion_mnist.read_files(None)
    images, labels = (fashion_mnist.idx(files[f"{part}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1"))
    return images, labels
