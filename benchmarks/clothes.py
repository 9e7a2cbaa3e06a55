"""``experiment=clothes`` on the real Fashion-MNIST beside plain Keras, and grey pictures beside three channels.

One round: the recipe with two workers, the same recipe in one Keras process with two threads (``keras_clothes.py``),
and the recipe with every picture in three channels. Needs the files of Fashion-MNIST (``data=fashion_mnist``).
"""

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import measure

_RANK = "distributed_cls.training"  # in the command of a rank's process


def main(arguments: Sequence[str] = ()) -> None:
    """Print the images per second, the test accuracy and the memory of the ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2, help="of each side; the recipe has 8, all but the first timed")
    epochs = parser.parse_args(arguments).epochs
    if epochs < 2:
        parser.error("expected two epochs at least: the first one is not timed")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch)
        measure.tell("clothes: two workers")
        ours, memory = _ours(root, epochs, 1)
        measure.tell("clothes: plain Keras")
        command = [sys.executable, "-m", "benchmarks.keras_clothes", ours["dataset"]["path"], str(epochs)]
        theirs = json.loads(measure.run(command).splitlines()[-1])
        measure.tell("clothes: three channels")
        coloured, more = _ours(root, epochs, 3)
    speed = ours["train"]["images_per_second"]
    rows = [
        ["two workers, grey", f"{speed:,.0f}", f"{ours['test']['accuracy']:.4f}", f"{memory:,.0f}"],
        ["plain Keras, two threads, grey", f"{theirs['images_per_second']:,.0f}", f"{theirs['accuracy']:.4f}", "–"],
        [
            "two workers, three channels",
            f"{coloured['train']['images_per_second']:,.0f}",
            f"{coloured['test']['accuracy']:.4f}",
            f"{more:,.0f}",
        ],
        ["ours ÷ plain Keras (goal ≥ 1)", f"{speed / theirs['images_per_second']:.2f}", "", ""],
        [
            "grey ÷ three channels",
            f"{speed / coloured['train']['images_per_second']:.2f}",
            "",
            f"{memory / more:.2f}",
        ],
    ]
    measure.show(f"The clothes, {epochs} epochs", ["side", "images/s", "test accuracy", "memory of a rank, MiB"], rows)


def _ours(root: Path, epochs: int, channels: int) -> tuple[dict[str, Any], float]:
    """The summary of a run of the experiment, and the largest memory of a rank in MiB."""
    settings = (f"train.epochs={epochs}", f"data.channels={channels}", f"dataset_root={root / 'datasets'}")
    with RankMemory() as memory:
        summary = measure.launch(root / f"run-{channels}", "experiment=clothes", *settings)
    return summary, memory.largest / 2**20


class RankMemory:
    """The largest proportional set size of a rank's process while the block runs, in bytes: ``largest``."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "RankMemory":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            for process in psutil.Process().children(recursive=True):
                try:
                    if _RANK in process.cmdline():
                        self.largest = max(self.largest, float(process.memory_full_info().pss))
                except psutil.Error:
                    continue  # it has just ended


if __name__ == "__main__":
    main(sys.argv[1:])
