"""Copies of test images among the training images of the real Fashion-MNIST: how many of them preparation finds.

300 copies are planted, 50 of each kind, and one preparation is run. Also counted: how many of 1,000 random pairs of a
training and a test image pass for near duplicates. ``--sheet file.png`` shows what else was left out, each training
image above the test image that it resembles, to be looked at by a person.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import garments, measure
from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.dataset import duplicates
from distributed_cls.dataset.sources import fashion_mnist

COPIES = 50  # of each kind
PAIRS = 1000
_ROW = re.compile(r"row (\d+)")


def _compressed(image: np.ndarray) -> np.ndarray:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _scaled(image: np.ndarray) -> np.ndarray:
    smaller = cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(smaller, image.shape, interpolation=cv2.INTER_CUBIC))


def _cropped(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image[1:-1, 1:-1], image.shape, interpolation=cv2.INTER_LINEAR))  # 5 % of each edge


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed again": _compressed,
    "scaled to 20 pixels and back": _scaled,
    "brightened": lambda image: np.clip(image.astype(int) + 30, 0, 255).astype(np.uint8),
    "shifted by a pixel": lambda image: np.roll(image, 1, axis=1),
    "cropped by 5 %": _cropped,
    "mirrored": lambda image: image[:, ::-1],
}


def main(arguments: Sequence[str] = ()) -> None:
    """Print the recall of each kind and the false alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="where to write the contact sheet")
    options = parser.parse_args(arguments)
    train, test = (garments.split(part) for part in ("train", "t10k"))
    chosen = np.random.default_rng(0).choice(len(test[0]), COPIES * len(KINDS), replace=False)
    kinds = [name for name in KINDS for _ in range(COPIES)]
    copies = [KINDS[kind](test[0][number]) for kind, number in zip(kinds, chosen, strict=True)]
    images = np.concatenate([train[0], np.stack(copies)])
    labels = np.concatenate([train[1], test[1][chosen]])
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch)
        for name, split in (("train", (images, labels)), ("test", test)):
            _write(root / "pictures" / f"{name}.parquet", *split)
        settings = (
            "data=parquet",
            f"data.path={root / 'pictures'}",
            "data.image_size=28",
            f"dataset_root={root / 'out'}",
        )
        measure.tell(f"leaks: preparing {len(images) + len(test[0]):,} images")
        summary = measure.launch(root / "run", "job=prepare", *settings)
        rejects = index.of_dataset(summary["dataset"]["path"], index.REJECTS_FILE)
    places = zip(*(rejects[name].to_pylist() for name in ("path", "row", "detail")), strict=True)
    pairs = {row: _row(detail) for path, row, detail in places if "train" in path and "test" in detail}
    found = Counter(kinds[row - len(train[0])] for row in pairs if row >= len(train[0]))
    others = {row: other for row, other in pairs.items() if row < len(train[0])}
    rows = [[kind, f"{found[kind]} of {COPIES}"] for kind in KINDS]
    rows += [["training images that were left out besides", f"{len(others)} of {len(train[0]):,}"]]
    rows += [[f"false alarms in {PAIRS:,} random pairs", str(_false_alarms(train, test))]]
    measure.show("Copies of test images that were found among the training images", ["kind", "found"], rows)
    if options.sheet:
        cv2.imwrite(str(options.sheet), _sheet([(train[0][row], test[0][other]) for row, other in others.items()]))


def _write(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    names = [fashion_mnist.CLASSES[label] for label in labels]
    pq.write_table(pa.table({"image": pa.array(encoded, pa.binary()), "label": names}), path)


def _row(detail: str) -> int:
    """Of the image that another one resembles."""
    found = _ROW.search(detail)
    assert found is not None, detail
    return int(found[1])


def _false_alarms(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> int:
    """Of ``PAIRS`` random pairs, how many differ in few enough bits, a mirror between those of one class allowed."""
    chance, limit = np.random.default_rng(1), DataConfig().near_duplicates
    assert limit is not None
    alarms = 0
    for one, other in zip(chance.integers(0, 60_000, PAIRS), chance.integers(0, 10_000, PAIRS), strict=True):
        sides = [train[0][one], test[0][other]]
        mirrored = [sides[1][:, ::-1]] if train[1][one] == test[1][other] else []
        first, *seconds = [_bits(image) for image in (*sides, *mirrored)]
        alarms += any(int((first != second).sum()) <= limit for second in seconds)
    return alarms


def _bits(image: np.ndarray) -> np.ndarray:
    found = duplicates.perceptual_hash(np.repeat(image[..., None], 3, axis=2))
    return np.unpackbits(np.frombuffer(found or bytes(duplicates.HASH_BITS // 8), np.uint8))


def _sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray]], columns: int = 16, scale: int = 2) -> np.ndarray:
    """The pairs, one above the other, with a white border: uint8 [H, W]."""
    cells = [np.pad(np.concatenate(pair), ((2, 6), (2, 2)), constant_values=255) for pair in pairs]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[first : first + columns], axis=1) for first in range(0, len(cells), columns)]
    return np.kron(np.concatenate(rows), np.ones((scale, scale), np.uint8))


if __name__ == "__main__":
    main(sys.argv[1:])
