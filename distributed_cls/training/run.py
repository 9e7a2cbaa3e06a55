"""The story of one rank: meet the others, train, evaluate, export.

Every rank runs this same code and takes the same number of steps. Rank 0 alone writes files and reports numbers,
after they were summed over all ranks.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed_cls.config import Config, to_dict
from distributed_cls.dataset.manifest import Manifest
from distributed_cls.errors import UserError
from distributed_cls.training import checkpoint, counts
from distributed_cls.training.checkpoint import Position
from distributed_cls.training.engine import Engine
from distributed_cls.training.events import Events
from distributed_cls.training.input import Source, evaluation_batches, train_batches
from distributed_cls.training.sharding import evaluation_steps, train_steps

# A graph call should be short enough for the bar to move and a stall to show, long enough to hide Python.
_SECONDS_PER_CALL = 2.0


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
    checkpoints: Path

    @property
    def chief(self) -> bool:
        return self.rank == 0

    @property
    def batch(self) -> int:
        """Images per local replica and step."""
        return self.config.train.batch_size // self.engine.replicas

    def records(self, split: str) -> list[int]:
        return [shard.records for shard in self.manifest.shards[split]]


def train(rank: Rank, position: Position) -> dict[str, Any]:
    """Train from ``position`` to the last epoch, or until the val accuracy no longer rises."""
    config, engine, events = rank.config.train, rank.engine, rank.events
    steps = train_steps(rank.records("train"), rank.world, config.batch_size)
    local = engine.replicas_of_this_rank
    events.phase("input")
    batches = train_batches(
        rank.sources["train"],
        config,
        rank=rank.rank,
        batch=rank.batch,
        steps=steps * local,
        first_epoch=position.epoch,
        threads=rank.threads,
    )
    iterator = iter(engine.distribute(batches))
    validation = _Evaluation(rank, "val")
    pace = _Pace(rank, iterator, steps)
    events.phase("train")
    while position.epoch < config.epochs:
        if config.patience and position.epoch - position.best_epoch >= config.patience:
            break
        position.values = pace.run_epoch(position)
        position.epoch += 1
        position.step += steps
        engine.average_statistics()
        result = validation.run()
        _end_epoch(rank, position, result)
    # A run that was resumed after its last epoch has timed nothing; that epoch's own rate is in its values.
    rate = {"images_per_second": pace.images_per_second} if pace.images_per_second else {}
    return {
        "epochs": position.epoch,
        "steps": position.step,
        "best_epoch": position.best_epoch,
        **position.values,
        **rate,
    }


def _end_epoch(rank: Rank, position: Position, result: dict[str, Any]) -> None:
    """Note the validation, and let rank 0 report it and write the checkpoints."""
    values = position.values
    accuracy, loss = result["correct"] / result["examples"], result["loss_sum"] / result["examples"]
    if not math.isfinite(loss) or not math.isfinite(values["loss"]):
        raise UserError(
            f"Expected a finite loss. Received: {values['loss']:g} (val {loss:g}) after epoch {position.epoch}: "
            f"training diverged at train.learning_rate={rank.config.train.learning_rate:g}. Set a lower one."
        )
    better = position.is_better(accuracy, loss)
    if better:
        position.best_epoch, position.best_accuracy, position.best_loss = position.epoch, accuracy, loss
    if not rank.chief:
        return
    for split, numbers in (("train", values), ("val", {"loss": loss, "accuracy": accuracy})):
        rank.events.emit("epoch", split=split, epoch=position.epoch, step=position.step, values=numbers)
    for name in ["best", "last"] if better else ["last"]:
        checkpoint.save(rank.checkpoints / f"{name}.npz", rank.engine.variables, position)


class _Pace:
    """Runs the steps of an epoch in graph calls of about ``_SECONDS_PER_CALL``, and reports after each."""

    def __init__(self, rank: Rank, iterator: Any, steps: int) -> None:
        self._rank, self._iterator, self._steps = rank, iterator, steps
        self._global_batch = tf.constant(float(rank.config.train.batch_size))
        self._first = True
        self._steps_timed, self._seconds_timed = 0, 0.0

    @property
    def images_per_second(self) -> float:
        """Images of all ranks a second, over all steps but the first, which traces the graph."""
        return self._steps_timed * self._rank.config.train.batch_size / max(self._seconds_timed, 1e-9)

    def run_epoch(self, position: Position) -> dict[str, float]:
        """Take one epoch of steps; return its loss and accuracy over all ranks, and the throughput."""
        rank, engine = self._rank, self._rank.engine
        sums, done = np.zeros(2), 0
        before = self._steps_timed, self._seconds_timed
        while done < self._steps:
            number = self._call_size(self._steps - done)
            own = self._call(number)
            sums, done = sums + own, done + number
            rank.events.at_step(position.step + done)
            if rank.chief:
                self._report(position, done, own / (number * rank.batch * engine.replicas_of_this_rank))
        loss, correct = engine.sum_over_ranks(sums)
        examples = self._steps * rank.config.train.batch_size
        timed, seconds = self._steps_timed - before[0], self._seconds_timed - before[1]
        rate = timed * rank.config.train.batch_size / seconds if seconds else 0.0
        learning_rate = float(engine.optimizer.learning_rate)
        return {
            "loss": loss / examples,
            "accuracy": correct / examples,
            "images_per_second": rate,
            "learning_rate": learning_rate,
        }

    def _call_size(self, left: int) -> int:
        if self._first:
            return 1
        most = min(left, self._rank.config.train.steps_per_call)
        if not self._steps_timed:
            return min(most, 5)
        seconds_per_step = self._seconds_timed / self._steps_timed
        return max(1, min(most, int(_SECONDS_PER_CALL / max(seconds_per_step, 1e-6))))

    def _call(self, steps: int) -> np.ndarray:
        began = time.perf_counter()
        own = self._rank.engine.train_call(self._iterator, tf.constant(steps), self._global_batch).numpy()
        if self._first:
            self._first = False
            self._rank.events.emit("first_step", seconds=time.perf_counter() - began)
        else:
            self._steps_timed += steps
            self._seconds_timed += time.perf_counter() - began
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


class _Evaluation:
    """Counts over every example of a split exactly once, on all ranks together."""

    def __init__(self, rank: Rank, split: str) -> None:
        self._rank, self._split = rank, split
        self._steps = evaluation_steps(rank.records(split), rank.world, rank.config.train.batch_size)
        self._batches = rank.engine.distribute(
            evaluation_batches(
                rank.sources[split],
                batch=rank.batch,
                steps=self._steps * rank.engine.replicas_of_this_rank,
                cache_megabytes=rank.config.train.cache_megabytes,
                threads=rank.threads,
            )
        )
        self.outcomes: counts.Outcomes | None = None

    def run(self) -> dict[str, Any]:
        rank = self._rank
        columns = rank.engine.evaluate_call(iter(self._batches), tf.constant(self._steps))
        self.outcomes = counts.Outcomes(tuple(column.numpy() for column in columns))
        classes = len(rank.manifest.classes)
        result = counts.as_dict(self._split, rank.engine.sum_over_ranks(self.outcomes.counts(classes)), classes)
        expected = sum(rank.records(self._split))
        assert result["examples"] == expected, f"{self._split}: {result['examples']} examples of {expected} counted"
        return result


def evaluate(rank: Rank) -> dict[str, Any]:
    """Evaluate val and test exactly: the counts of each. The surest mistakes go straight to the driver."""
    rank.events.phase("evaluate")
    results = {}
    for split in ("val", "test"):
        evaluation = _Evaluation(rank, split)
        results[split] = evaluation.run()
        assert evaluation.outcomes is not None
        chosen = evaluation.outcomes.surest_mistakes()
        items = counts.gallery(rank.sources[split], evaluation.outcomes, chosen)
        rank.events.emit("mistakes", split=split, items=items)
    return results


def export(rank: Rank, build: Callable[[], keras.Model], folder: Path, results: dict[str, Any]) -> None:
    """Let rank 0 write the exported model, from plain variables outside the strategy."""
    from distributed_cls.training.export import export_model

    rank.events.phase("export")
    if rank.chief:
        model = build()
        for variable, trained in zip(model.variables, rank.engine.model.variables, strict=True):
            variable.assign(np.asarray(trained))
        manifest = rank.manifest
        card: dict[str, Any] = {
            "model": rank.config.model.name,
            "dataset": {"name": manifest.name, "fingerprint": manifest.fingerprint, "counts": manifest.counts},
            "config": to_dict(rank.config),
            **{split: _headline(results[split]) for split in ("val", "test") if split in results},
        }
        export_model(
            model, folder, classes=manifest.classes, image_size=manifest.image_size, card=card, resize=manifest.resize
        )
    # Nobody leaves before rank 0 is done: a peer that is gone looks like a failure to TensorFlow.
    rank.engine.barrier()


def _headline(counted: dict[str, Any]) -> dict[str, Any]:
    examples = counted["examples"]
    return {
        "examples": examples,
        "correct": counted["correct"],
        "accuracy": counted["correct"] / examples,
        "loss": counted["loss_sum"] / examples,
    }
