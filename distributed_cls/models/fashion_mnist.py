"""Fashion-MNIST as a folder of class folders: ``python -m distributed_cls.models.fashion_mnist FOLDER``.

Preparation runs this as a child process, because Keras's loader brings TensorFlow with it.
"""

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

CLASSES = (
    "t-shirt_top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
)
_MTIME = 1_000_000_000  # one time for all files: a second copy elsewhere is the same data set


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def grey_png(image: np.ndarray) -> bytes:
    """A uint8 grey image [H, W] as PNG. (OpenCV is left to the dataset room.)"""
    height, width = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def write(folder: Path) -> None:
    """Download with Keras's loader (or take its cached copy) and write 70,000 PNGs into class folders."""
    # Only this child process pays for the import.
    from keras.datasets import fashion_mnist

    (train_images, train_labels), (test_images, test_labels) = fashion_mnist.load_data()
    images = np.concatenate([train_images, test_images])
    labels = np.concatenate([train_labels, test_labels])
    for name in CLASSES:
        (folder / name).mkdir(exist_ok=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / CLASSES[int(label)] / f"{number:05d}.png"
        path.write_bytes(grey_png(image))
        os.utime(path, (_MTIME, _MTIME))


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]))
    # Whatever the download raises becomes the last line of stderr, which is what the parent shows.
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
