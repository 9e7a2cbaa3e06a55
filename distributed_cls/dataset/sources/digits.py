"""data=digits: scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels; always there."""

import numpy as np
import pyarrow as pa

from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing
from distributed_cls.dataset.sources import built_in
from distributed_cls.dataset.sources.source import Source, register


def list_digits(config: DataConfig, root: str) -> Listing:
    """All of them; the splits are made."""
    return built_in.list_table_of("digits", config, root, _table)


def _table() -> pa.Table:
    # scikit-learn takes a second to import, and only the first run on this data set needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 17 levels of grey
    return built_in.images_table(images, map(str, digits.target))


register(Source("digits", list_digits, "the digits of scikit-learn", "Install scikit-learn.", needs_path=False))
