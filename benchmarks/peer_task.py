"""What a peer of the comparison is given and what it returns: the contract between ``peers`` and ``peer_*``.

All peers train the same network on the same images, with the same global batch, optimizer and number of steps.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class PeerTask:
    """One training: ``epochs`` × ``steps`` steps of ``global_batch`` images, Adam at ``learning_rate``.

    ``data``: path of an .npz file with ``images`` uint8 [N, S, S, 3] and ``labels`` int64 [N].
    """

    data: str
    classes: int
    epochs: int
    steps: int  # of an epoch
    global_batch: int
    learning_rate: float

    def arrays(self, rank: int = 0, world_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The images uint8 [n, S, S, 3] and labels int64 [n] of ``rank``; n is enough for an epoch without repeats."""
        with np.load(self.data) as data:
            images, labels = data["images"][rank::world_size], data["labels"][rank::world_size]
        needed = self.steps * self.replica_batch(world_size)
        assert len(images) >= needed, f"an epoch needs {needed} images, rank {rank} has {len(images)}"
        return images, labels

    def replica_batch(self, world_size: int) -> int:
        """Images of a step on each of ``world_size`` ranks."""
        return self.global_batch // world_size

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "PeerTask":
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class PeerResult:
    """``images`` of all ranks were trained on in ``seconds``, by rank 0's clock, in all epochs but the first.

    ``loss``: mean training loss of the last epoch, nats per image. ``parameters``: trainable ones of the network, None
    where a side does not say.
    """

    images: int
    seconds: float
    loss: float
    parameters: int | None = None

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @classmethod
    def of_epochs(
        cls, task: PeerTask, seconds: list[float], loss: float, parameters: int | None = None
    ) -> "PeerResult":
        """The result of epochs that took ``seconds``; the first, which traces graphs and fills caches, is left out."""
        assert len(seconds) == task.epochs, f"{len(seconds)} of {task.epochs} epochs were timed"
        images = (task.epochs - 1) * task.steps * task.global_batch
        return cls(images, sum(seconds[1:]), loss, parameters)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "PeerResult":
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class EpochTimer:
    """Seconds from the first step of each epoch to its last. The arguments that callbacks pass are ignored."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def start(self, *_: object) -> None:
        self._began = time.perf_counter()

    def stop(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self._began)
