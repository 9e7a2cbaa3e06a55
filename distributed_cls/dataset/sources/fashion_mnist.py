"""data=fashion_mnist: 70,000 grey pictures of clothes, 28 x 28 pixels (Xiao, Rasul, Vollgraf 2017).

Its four files are read from the first place that has them: data.path, Debian's package dataset-fashion-mnist, Keras's
cache of downloads, the network. The given splits are kept: 60,000 train (val is taken out of it), 10,000 test.
"""

import gzip
import hashlib
import logging
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing
from distributed_cls.dataset.sources import built_in
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.errors import UserError

log = logging.getLogger(__name__)

CLASSES = (
    *("t-shirt_top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle_boot"),
)
SYSTEM_FOLDER = "/usr/share/datasets/fashion-mnist"
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
DOWNLOAD_SECONDS = 60.0  # longest silence of the server
# MD5 of the unzipped files: the same ones are about zipped differently.
SUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
_SPLITS = {"train": "train", "t10k": "test"}


def list_fashion_mnist(config: DataConfig, root: str) -> Listing:
    """All of them, with the given splits."""
    return built_in.list_table_of("fashion_mnist", config, root, lambda: _table(config.path))


def _table(path: str | None) -> pa.Table:
    files = read_files(path)
    images, labels, splits = [], [], []
    for prefix, split in _SPLITS.items():
        images.append(idx(files[f"{prefix}-images-idx3-ubyte"]))
        labels.append(idx(files[f"{prefix}-labels-idx1-ubyte"]))
        splits += [split] * len(labels[-1])
    names = [CLASSES[label] for label in np.concatenate(labels).tolist()]
    return built_in.images_table(np.concatenate(images), names, splits)


def idx(data: bytes) -> np.ndarray:
    """The uint8 array of an IDX file: two zero bytes, the type 8, the number of axes, each length (big endian)."""
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_files(path: str | None) -> dict[str, bytes]:
    """The four unzipped files. Raises UserError when no place has them all."""
    if path is not None:
        folder = storage.absolute(path)
        return _all(lambda name: _from_folder(folder, name), f"data.path={path}")
    keras = os.environ.get("KERAS_HOME") or str(Path("~/.keras").expanduser())
    for folder in (SYSTEM_FOLDER, storage.join(keras, "datasets", "fashion-mnist")):
        if any(name.startswith("train-images") for name in storage.names(folder)):
            try:
                return _all(lambda name, folder=folder: _from_folder(folder, name), folder)  # type: ignore[misc]
            except UserError as error:
                log.warning("%s is passed over. %s", folder, error)
    log.info("Downloading Fashion-MNIST, 30 MB")
    return _all(_download, URL)


def _all(read: Callable[[str], bytes], where: str) -> dict[str, bytes]:
    found = {}
    for name, expected in SUMS.items():
        try:
            found[name] = read(name)
        # A missing file, no network, damaged gzip: libraries have types of their own for each.
        except Exception as error:
            raise UserError(
                f"Expected the files of Fashion-MNIST. Received: {where} without a readable {name} "
                f"({storage.reason_of(error)}). Install the Debian package dataset-fashion-mnist, set data.path to a "
                "folder with the four files, connect to the network, or use data=digits."
            ) from None
        md5 = hashlib.md5(found[name], usedforsecurity=False).hexdigest()
        if md5 != expected:
            raise UserError(
                f"Expected {name} with MD5 {expected} (unzipped). Received: {md5} from {where}. Replace the file."
            )
    log.info("Fashion-MNIST is read from %s", where)
    return found


def _from_folder(folder: str, name: str) -> bytes:
    if storage.exists(storage.join(folder, name)):
        return storage.read_bytes(storage.join(folder, name))
    return gzip.decompress(storage.read_bytes(storage.join(folder, f"{name}.gz")))


def _download(name: str) -> bytes:
    with urllib.request.urlopen(f"{URL}{name}.gz", timeout=DOWNLOAD_SECONDS) as answer:
        return gzip.decompress(answer.read())


register(
    Source(
        "fashion_mnist",
        list_fashion_mnist,
        "the files of Fashion-MNIST",
        "Set data.path to a folder with the four files.",
        needs_path=False,
    )
)
