"""The training loop of a rank, from ``train`` down to the call of some steps (``train_graph.py``).

Every rank runs this same code and takes the same number of steps. ``Model.fit`` does not work for Keras 3 under
MultiWorkerMirroredStrategy (keras#20585), so the loop is our own, on Keras's public API.
"""

import dataclasses
import time
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.contracts.checkpoint import LAST, Position
from distributed_cls.contracts.counts import Counts
from distributed_cls.contracts.events import EpochEnded, FailureKind, Metrics, Noted, Phase, TrainProgressed
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.training import interruption
from distributed_cls.training.context import RankContext
from distributed_cls.training.evaluator import Evaluator
from distributed_cls.training.input import train_batches
from distributed_cls.training.losses import class_weights
from distributed_cls.training.sharding import train_steps
from distributed_cls.training.state_keeper import StateKeeper
from distributed_cls.training.steps_per_call import StepsPerCall
from distributed_cls.training.train_graph import TrainGraph


class Diverged(ArithmeticError):
    """The loss is no longer finite."""

    failure = FailureKind.DIVERGED


def train(ctx: RankContext, position: Position) -> TrainResult:
    """Train from ``position`` to the last epoch, or until the validation no longer gets better."""
    config, replicated = ctx.config.train, ctx.replicated
    steps = train_steps([ctx.epoch_records], config.batch_size)
    if ctx.is_chief:
        ctx.reporter.send(Noted(text=batch_arithmetic(ctx, steps)))

    ctx.reporter.phase(Phase.INPUT)
    iterator = train_iterator(ctx, steps, position.step)
    validation = Evaluator(ctx, "val")
    # Destroying a distributed iterator waits for its prefetching threads, seconds to minutes, while the other ranks
    # stand in the next collective. They live as long as the process, which ends without tearing anything down.
    ctx.kept_alive += [iterator, validation]

    ctx.reporter.phase(Phase.TRACE)
    epochs = EpochRunner(ctx, iterator, steps)
    with interruption.heeded():
        while position.epoch < config.epochs:
            if config.patience and position.epoch - position.best_epoch >= config.patience:
                break
            metrics = epochs.run(position)
            replicated.average_statistics()
            with replicated.averaged():
                counts = validation.run()
            position = _end_epoch(ctx, position, steps, metrics, counts)
            epochs.keeper.end_when_asked(position)
    if ctx.is_chief:
        # While a full disk is waited for, nothing else moves that the driver could see.
        ctx.saver.finish(lambda: ctx.reporter.progress(0, 1))
    return _result(position, epochs.images_per_second)


def train_iterator(ctx: RankContext, steps: int, first_step: int = 0) -> Any:
    """This rank's training batches as the strategy's input, from ``first_step`` on; ``steps``: of an epoch."""
    batches = train_batches(
        ctx.sources["train"],
        ctx.lanes,
        ctx.config.train,
        steps=steps,
        first_step=first_step,
        threads=ctx.threads,
    )
    return ctx.replicated.iterate(ctx.replicated.distribute(batches))


def batch_arithmetic(ctx: RankContext, steps: int) -> str:
    """The one line that says how the global batch is made and how many steps follow from it."""
    config, local = ctx.config.train, ctx.replicated.local_replicas
    ranks = f"{ctx.world_size} rank{'s' if ctx.world_size > 1 else ''}"
    per_rank = _sizes([dataclasses.replace(ctx.lanes, rank=rank).batch_size for rank in range(ctx.world_size)])
    gpus = f" ({local} GPUs × {_sizes(ctx.lanes.replica_sizes)})" if local > 1 else ""
    records = ctx.epoch_records
    images = f"{sum(ctx.records('train')):,} train images"
    if config.sampling == "balanced":
        images += f", the smaller classes repeated to {records:,},"
    left_out = max(0, records - steps * config.batch_size)
    rest = f", {left_out:,} images left out of each epoch, others every time" if left_out else ""
    return (
        f"global batch {config.batch_size} = {ranks} × {per_rank} images{gpus}; {images} = {steps:,} "
        f"steps an epoch{rest}; {config.epochs} epochs = {steps * config.epochs:,} steps"
    )


def _sizes(sizes: list[int]) -> str:
    return f"{min(sizes)}" if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"


def _end_epoch(ctx: RankContext, position: Position, steps: int, metrics: Metrics, counts: Counts) -> Position:
    """Note the validation, and let rank 0 write the checkpoints and report the epoch."""
    epoch = position.epoch + 1
    position = dataclasses.replace(position, epoch=epoch, step=epoch * steps, values=metrics, sums=[])
    better = position.is_better(counts.accuracy, counts.loss, ctx.config.train.monitor)
    if better:
        position = dataclasses.replace(
            position, best_epoch=position.epoch, best_accuracy=counts.accuracy, best_loss=counts.loss
        )
    if ctx.is_chief:
        # An epoch that is reported is also safe, if the disk has room: first the checkpoints, then the events.
        best = ctx.replicated.judged_variables if better else ()
        ctx.saver.save(ctx.replicated.variables, position, best=best)
        ctx.saver.wait()
        validated = Metrics(counts.loss, counts.accuracy)
        for split, values in (("train", metrics), ("val", validated)):
            ctx.reporter.send(EpochEnded(split=split, epoch=position.epoch, step=position.step, values=values))
    return position


def _result(position: Position, images_per_second: float) -> TrainResult:
    values = position.values
    assert values is not None, "training ends after an epoch"
    return TrainResult(
        epochs=position.epoch,
        steps=position.step,
        best_epoch=position.best_epoch,
        loss=values.loss,
        accuracy=values.accuracy,
        learning_rate=values.learning_rate or 0.0,
        # A run that was resumed after its last epoch has timed nothing; that epoch's own rate is in its values.
        images_per_second=images_per_second or values.images_per_second or 0.0,
        val_accuracy=position.best_accuracy,
        val_loss=position.best_loss,
    )


class EpochRunner:
    """Runs the steps of an epoch in graph calls of a few seconds, and reports after each."""

    def __init__(self, ctx: RankContext, iterator: Any, steps: int) -> None:
        self._ctx, self._iterator, self._steps = ctx, iterator, steps
        self._graph = TrainGraph(ctx.replicated, ctx.config.train, class_weights(ctx))
        self._size = StepsPerCall(ctx.config.train.steps_per_call)
        self._traced = False
        self.keeper = StateKeeper(ctx)
        self._timed = np.zeros(2)  # steps and their seconds on this rank, without the first step

    @property
    def images_per_second(self) -> float:
        """Images of all ranks per second, over all steps but the first, which traces the graph."""
        return self._rate(self._timed)

    def _rate(self, timed: NDArray[np.float64]) -> float:
        steps, seconds = timed
        return float(steps * self._ctx.config.train.batch_size / max(seconds, 1e-9))

    def run(self, position: Position) -> Metrics:
        """Take one epoch of steps; its loss and accuracy over all ranks, and the throughput."""
        ctx, replicated = self._ctx, self._ctx.replicated
        began = position.epoch * self._steps
        sums, done, before = position.own_sums(ctx.rank, ctx.world_size), position.step - began, self._timed.copy()
        self.keeper.begin(position.step)
        while done < self._steps:
            # The first call traces the graph: one step, so that the time to it can be told.
            number = self._size.next(self._steps - done) if self._traced else 1
            *own, seconds = self._call(number)
            sums, done = sums + own, done + number
            images = number * ctx.lanes.batch_size
            means = np.array(own) / images
            self._check_finite(position, began + done, means[0])
            ctx.reporter.at_step(began + done, images, seconds)
            if ctx.is_chief:
                self._report(position, began + done, means)
            if done < self._steps:
                self.keeper.keep(dataclasses.replace(position, step=began + done), sums)
            if self._timed[0] and not self._size.calibrated:
                self._calibrate(replicated.sum_over_ranks(self._timed))
        loss, correct, *timed = replicated.sum_over_ranks(np.concatenate([sums, self._timed]))
        self._calibrate(np.array(timed))
        examples = self._steps * ctx.config.train.batch_size
        return Metrics(
            loss=float(loss / examples),
            accuracy=float(correct / examples),
            images_per_second=self._rate(self._timed - before),
            learning_rate=self._graph.learning_rate(),
        )

    def _calibrate(self, timed: NDArray[np.float64]) -> None:
        """Size the calls by the steps and seconds of all ranks together, the same numbers on each."""
        if timed[0]:
            self._size.calibrate(float(timed[1] / timed[0]))

    def _call(self, steps: int) -> NDArray[np.float64]:
        began = time.perf_counter()
        own: NDArray[np.float64] = self._graph.train_call(self._iterator, tf.constant(steps)).numpy()
        if self._traced:
            self._timed += (steps, time.perf_counter() - began)
        else:
            self._traced = True
            self._ctx.reporter.phase(Phase.TRAIN)
        return own

    def _check_finite(self, position: Position, step: int, loss: float) -> None:
        """Stop before a checkpoint, or a report, holds what no longer means anything."""
        if np.isfinite(loss):
            return
        saved = self.keeper.saved_step
        rate = "train.learning_rate" if self._ctx.first_phase is None else "train.fine_tune_rate"
        kept = f"{self._ctx.checkpoints / LAST} (step {saved})" if saved else "none yet"
        raise Diverged(
            f"Expected a finite loss. Received: {loss} on rank {self._ctx.rank} within the steps up to "
            f"{step} (epoch {position.epoch + 1}), at {rate}="
            f"{self._ctx.config.train.learning_rate:g} (now {self._graph.learning_rate():.3g}). "
            f"Last good checkpoint: {kept}. Set a lower {rate}, and an empty run folder."
        )

    def _report(self, position: Position, step: int, means: NDArray[np.float64]) -> None:
        # The numbers of rank 0's own images: the exact ones over all ranks follow at the end of the epoch.
        self._ctx.reporter.send(
            TrainProgressed(
                epoch=position.epoch + 1,
                epochs=self._ctx.config.train.epochs,
                step=step,
                steps=self._steps * self._ctx.config.train.epochs,
                values=Metrics(
                    float(means[0]), float(means[1]), self.images_per_second or None, self._graph.learning_rate()
                ),
            )
        )
