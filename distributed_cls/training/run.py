"""The story of one rank: train, evaluate, export.

Every rank runs this same code and takes the same number of steps. Rank 0 alone writes files and reports numbers,
after they were summed over all ranks.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distributed_cls.config import to_dict
from distributed_cls.errors import UserError
from distributed_cls.training import checkpoint
from distributed_cls.training.checkpoint import Position
from distributed_cls.training.context import Pace, Rank
from distributed_cls.training.evaluator import Evaluation
from distributed_cls.training.input import train_batches
from distributed_cls.training.sharding import train_steps


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
    validation = Evaluation(rank, "val")
    pace = Pace(rank, iterator, steps)
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
    # An epoch that is reported is also safe: first the checkpoints, then the events.
    for name in ["best", "last"] if better else ["last"]:
        checkpoint.save(rank.checkpoints / f"{name}.npz", rank.engine.variables, position)
    for split, numbers in (("train", values), ("val", {"loss": loss, "accuracy": accuracy})):
        rank.events.emit("epoch", split=split, epoch=position.epoch, step=position.step, values=numbers)


def export(rank: Rank, build: Callable[[], keras.Model], folder: Path, results: dict[str, Any]) -> None:
    """Let rank 0 write the exported model, from plain variables outside the strategy."""
    from distributed_cls.training.saved_model import export_model

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
