"""What one rank of a run works with, and how it takes its steps."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from distributed_cls.config import Config
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.training.checkpoint import Position
from distributed_cls.training.engine import Engine
from distributed_cls.training.input import Source
from distributed_cls.training.reporter import Events

# A graph call should be short enough for the bar to move and a stall to show, long enough to hide Python.
_SECONDS_PER_CALL = 2.0
_FIRST_GUESS = 5  # steps of a call while nothing was timed


@dataclass
class Rank:
    """What one rank works with."""

    config: Config
    manifest: Manifest
    sources: dict[str, Source]  # this rank's part of each split
    engine: Engine
    events: Events
    rank: int
    world: int
    threads: int
    folder: Path  # of the run

    @property
    def chief(self) -> bool:
        return self.rank == 0

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def batch(self) -> int:
        """Images per local replica and step."""
        return self.config.train.batch_size // self.engine.replicas

    def records(self, split: str) -> list[int]:
        return [shard.records for shard in self.manifest.shards[split]]


class CallSize:
    """How many steps the next graph call takes: ``_SECONDS_PER_CALL`` worth, once ``settle`` says how long one is.

    Calls that contain collectives must be cut alike on every rank: TensorFlow finds the peer's part of a collective by
    the loop's iteration number, among others, so ranks that count their iterations differently wait for ever. A size
    for such calls is settled with numbers that are the same everywhere, never with a rank's own clock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds_per_step: float | None = None

    @property
    def settled(self) -> bool:
        return self._seconds_per_step is not None

    def settle(self, seconds_per_step: float) -> None:
        """From now on a step is taken to last that long."""
        self._seconds_per_step = max(seconds_per_step, 1e-6)

    def next(self, left: int) -> int:
        """Steps of the next call, when ``left`` are to be done."""
        most = min(left, self._most)
        if self._seconds_per_step is None:
            return min(most, _FIRST_GUESS)
        return max(1, min(most, int(_SECONDS_PER_CALL / self._seconds_per_step)))


class Pace:
    """Runs the steps of an epoch in graph calls of about ``_SECONDS_PER_CALL``, and reports after each."""

    def __init__(self, rank: Rank, iterator: Any, steps: int) -> None:
        self._rank, self._iterator, self._steps = rank, iterator, steps
        self._global_batch = tf.constant(float(rank.config.train.batch_size))
        self._size = CallSize(rank.config.train.steps_per_call)
        self._first = True
        self._timed = np.zeros(2)  # steps and their seconds on this rank, without the first step

    @property
    def images_per_second(self) -> float:
        """Images of all ranks a second, over all steps but the first, which traces the graph."""
        return self._rate(self._timed)

    def _rate(self, timed: np.ndarray) -> float:
        steps, seconds = timed
        return float(steps * self._rank.config.train.batch_size / max(seconds, 1e-9))

    def run_epoch(self, position: Position) -> dict[str, float]:
        """Take one epoch of steps; return its loss and accuracy over all ranks, and the throughput."""
        rank, engine = self._rank, self._rank.engine
        sums, done, before = np.zeros(2), 0, self._timed.copy()
        while done < self._steps:
            # The first call traces the graph: one step, so that the time to it can be told.
            number = 1 if self._first else self._size.next(self._steps - done)
            own = self._call(number)
            sums, done = sums + own, done + number
            rank.events.at_step(position.step + done)
            if rank.chief:
                self._report(position, done, own / (number * rank.batch * engine.replicas_of_this_rank))
            if self._timed[0] and not self._size.settled:
                self._settle(engine.sum_over_ranks(self._timed))
        loss, correct, *timed = engine.sum_over_ranks(np.concatenate([sums, self._timed]))
        self._settle(np.array(timed))
        examples = self._steps * rank.config.train.batch_size
        return {
            "loss": loss / examples,
            "accuracy": correct / examples,
            "images_per_second": self._rate(self._timed - before),
            "learning_rate": float(np.asarray(engine.optimizer.learning_rate)),  # mirrored, where it is constant
        }

    def _settle(self, timed: np.ndarray) -> None:
        """Size the calls by the steps and seconds of all ranks together, the same numbers on each."""
        if timed[0]:
            self._size.settle(timed[1] / timed[0])

    def _call(self, steps: int) -> np.ndarray:
        began = time.perf_counter()
        own = self._rank.engine.train_call(self._iterator, tf.constant(steps), self._global_batch).numpy()
        seconds = time.perf_counter() - began
        if self._first:
            self._first = False
            self._rank.events.emit("first_step", seconds=seconds)
        else:
            self._timed += (steps, seconds)
        return own.astype(np.float64)

    def _report(self, position: Position, done: int, means: np.ndarray) -> None:
        # The numbers of rank 0's own images: the exact ones over all ranks follow at the end of the epoch.
        self._rank.events.emit(
            "progress",
            split="train",
            epoch=position.epoch + 1,
            epochs=self._rank.config.train.epochs,
            step=position.step + done,
            steps=self._steps * self._rank.config.train.epochs,
            values={"loss": means[0], "accuracy": means[1], "images_per_second": self.images_per_second},
        )
