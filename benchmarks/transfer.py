"""Transfer against none: a network that knows five kinds of clothing learns five others from 20 images of each.

A CNN is trained on five classes of the real Fashion-MNIST. Then, for each seed, 20 training images of each of the other
five are drawn, and learned twice by the same network: its backbone from that run and frozen, and all of it from random
weights. Both are tested on the same 200 images of each class, out of Fashion-MNIST's own test split.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks import garments, measure
from distributed_cls.dataset.sources import fashion_mnist

SEEDS = range(5)
KNOWN = ("t-shirt_top", "pullover", "dress", "sandal", "ankle_boot")
NEW = ("trouser", "coat", "shirt", "sneaker", "bag")
IMAGES = {"train": 20, "val": 20, "test": 200}  # of each new class
_NETWORK = ("model=cnn", "model.pool_first=true", "data.image_size=28", "data.near_duplicates=null")


def main() -> None:
    """Print both test accuracies of every seed."""
    transferred: list[float] = []
    scratch: list[float] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        root = Path(temporary)
        pictures = {part: _pictures(part) for part in ("train", "t10k")}
        for name in KNOWN:
            _write(root / "known" / name, pictures["train"][name][:3000])
        measure.tell("transfer, the network that knows five classes")
        known = ("data=folder", f"data.path={root / 'known'}", "train.epochs=4", "train.batch_size=128")
        measure.launch(root / "backbone", *_NETWORK, *known, f"dataset_root={root / 'datasets'}")
        for seed in SEEDS:
            measure.tell(f"transfer, seed {seed + 1} of {len(SEEDS)}")
            _write_new(root / f"new-{seed}", pictures, seed)
            # A head of its own learns well at ten times the rate that suits a whole network.
            for start, weights, rate, found in (
                ("backbone", str(root / "backbone"), 1e-2, transferred),
                ("random", "null", 1e-3, scratch),
            ):
                summary = measure.launch(
                    root / f"from-{start}-{seed}",
                    *_NETWORK,
                    *("data=split_folder", f"data.path={root / f'new-{seed}'}", f"dataset_root={root / 'datasets'}"),
                    *("train.epochs=40", "train.batch_size=20", "train.patience=10", f"train.seed={seed}"),
                    *(f"model.weights={weights}", f"train.learning_rate={rate}"),
                )
                found.append(summary["test"]["accuracy"])
    _show(transferred, scratch)


def _show(transferred: Sequence[float], scratch: Sequence[float]) -> None:
    gains = [ours - theirs for ours, theirs in zip(transferred, scratch, strict=True)]
    every = (("from the backbone", transferred), ("from random weights", scratch), ("gain", gains))
    measure.show(
        f"Test accuracy on five new classes, {IMAGES['train']} training images of each, {len(SEEDS)} seeds",
        ["start", *(f"seed {seed}" for seed in SEEDS), "mean"],
        [[name, *(f"{value:.3f}" for value in row), f"{statistics.fmean(row):.3f}"] for name, row in every],
    )


def _pictures(part: str) -> dict[str, np.ndarray]:
    """Class → its images in a split of the data set (train, t10k), uint8 [N, 28, 28]."""
    images, labels = garments.split(part)
    return {name: images[labels == label] for label, name in enumerate(fashion_mnist.CLASSES)}


def _write_new(folder: Path, pictures: dict[str, dict[str, np.ndarray]], seed: int) -> None:
    """Draw the images of the new classes: train and val out of Fashion-MNIST's train split, test out of its own."""
    chance = np.random.default_rng(seed)
    for name in NEW:
        learned = chance.choice(len(pictures["train"][name]), IMAGES["train"] + IMAGES["val"], replace=False)
        _write(folder / "train" / name, pictures["train"][name][learned[: IMAGES["train"]]])
        _write(folder / "val" / name, pictures["train"][name][learned[IMAGES["train"] :]])
        _write(folder / "test" / name, pictures["t10k"][name][: IMAGES["test"]])


def _write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:04d}.png"), image)
