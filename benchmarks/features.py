"""The feature cache against none: ten epochs of a head on a frozen ResNet50 at 64 pixels, in turn, on the same shards.

The backbone has random weights, with normalisation fitted to the images as training would have done: a head on it has
something to learn, and nothing is downloaded. Each round runs three commands: without the cache, with an empty one, and
with the one that the second left, as the second trial of a sweep finds it.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import measure

ROUNDS = 2
EPOCHS = 10
CLASSES = 10
IMAGES = 1_500
SIZE = 64


@dataclasses.dataclass(frozen=True)
class Measured:
    """A run: seconds of the features, of building the model and tracing, of ten epochs, of the whole command."""

    features: float
    building: float
    epochs: float
    command: float
    accuracy: float  # of the best validation

    @classmethod
    def of(cls, summary: dict[str, Any]) -> "Measured":
        seconds = summary["seconds"]
        times = (seconds.get("features", 0.0), seconds["tracing"], seconds["train"], seconds["total"])
        return cls(*times, summary["train"]["val_accuracy"])


def main() -> None:
    """Print the seconds of each side, their ratios, and both validation accuracies."""
    runs: dict[str, list[Measured]] = {"off": [], "empty": [], "there": []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch)
        write_pictures(root / "pictures")
        _write_backbone(root / "pictures", root / "backbone.weights.h5")
        for number in range(ROUNDS):
            # A round has a data set of its own, and so an empty cache: its seed shuffles the shards.
            images = (
                *("data=folder", f"data.path={root / 'pictures'}", f"data.image_size={SIZE}"),
                *(
                    "data.near_duplicates=null",
                    f"data.seed={number}",
                    f"dataset_root={root / 'datasets'}",
                ),
            )
            measure.launch(root / f"prepare-{number}", "job=prepare", *images)
            for side, measured in runs.items():
                measure.tell(f"features, round {number + 1} of {ROUNDS}: {side}")
                summary = measure.launch(
                    root / f"{side}-{number}",
                    *images,
                    *("model=resnet", f"model.weights={root / 'backbone.weights.h5'}", "job=train"),
                    *(f"train.epochs={EPOCHS}", "train.batch_size=64", "cluster.workers=2"),
                    f"model.feature_cache={'off' if side == 'off' else 'on'}",
                )
                measured.append(Measured.of(summary))
    _show(runs)


def _show(runs: dict[str, list[Measured]]) -> None:
    sides = {"off": "no cache", "empty": "cache, empty at first", "there": "cache, there already"}
    rows = [
        [
            name,
            measure.spread([run.features for run in runs[side]], 1),
            measure.spread([run.building for run in runs[side]], 1),
            measure.spread([run.epochs for run in runs[side]], 1),
            measure.spread([run.command for run in runs[side]], 1),
            measure.spread([run.accuracy for run in runs[side]], 3),
        ]
        for side, name in sides.items()
    ]
    measure.show(
        f"Ten epochs of a head on a frozen ResNet50: {IMAGES:,} images at {SIZE} pixels, two workers: median of "
        f"{ROUNDS} rounds (range)",
        ["side", "features, s", "building, s", "ten epochs, s", "whole command, s", "val accuracy"],
        rows,
    )
    off, empty, there = runs.values()
    ratios = {
        "ten epochs, features that are there (goal ≥ 8)": [
            o.epochs / t.epochs for o, t in zip(off, there, strict=True)
        ],
        "ten epochs, and the features before them": [
            o.epochs / (e.features + e.epochs) for o, e in zip(off, empty, strict=True)
        ],
        "whole command, features that are there": [o.command / t.command for o, t in zip(off, there, strict=True)],
    }
    measure.show(
        "No cache ÷ cache, in seconds", ["of", "times"], [[name, measure.spread(r)] for name, r in ratios.items()]
    )


def write_pictures(folder: Path) -> None:
    """A folder of PNG files for each class: gratings of any direction and phase, in about its colour, under noise."""
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for label in range(CLASSES):
        (folder / f"class_{label}").mkdir(parents=True)
        hue = 2 * np.pi * (label / CLASSES + np.arange(3) / 3)
        for number in range(IMAGES // CLASSES):
            (angle, phase), cycles = chance.uniform(0, 2 * np.pi, 2), chance.uniform(3, 6)
            wave = np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)
            colour = 128 + 40 * np.cos(hue) + chance.normal(0, 12, 3)
            picture = colour + 40 * wave[..., None] + chance.normal(0, 30, (SIZE, SIZE, 3))
            cv2.imwrite(str(folder / f"class_{label}" / f"{number:04d}.png"), np.clip(picture, 0, 255).astype(np.uint8))


_BACKBONE = """
import pathlib, sys
import cv2, keras, numpy as np
from distributed_cls.models import applications
size, pictures, target = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(0)
backbone = applications.make("ResNet50", size)
pixels = keras.Input((size, size, 3))
whole = keras.Model(pixels, backbone(applications.prepared("ResNet50", pixels)))
for layer in backbone.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0  # the statistics of the one batch that follows
files = sorted(pictures.rglob("*.png"))[::8]
images = np.stack([cv2.imread(str(file))[..., ::-1] for file in files]).astype(np.float32)
whole(images, training=True)
backbone.save_weights(target)
"""


def _write_backbone(pictures: Path, target: Path) -> None:
    """The weights of a random ResNet50 whose normalisation fits the pictures; made in a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _BACKBONE, str(SIZE), str(pictures), str(target)]
    subprocess.run(command, env=environment, check=True, timeout=300)
