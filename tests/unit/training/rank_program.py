"""One rank of the tests in test_ranks.py: the arguments are WORK and FOLDER; TF_CONFIG has its place.

``FOLDER/order.json`` is an order as the barrier room gives it. The rank leaves ``FOLDER/rank-K.*``.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed_cls.config import CnnConfig, Config, DenseConfig, TrainConfig, from_dict
from distributed_cls.contracts import manifest as manifests
from distributed_cls.models.registry import build
from distributed_cls.training import start
from distributed_cls.training.engine import Engine
from distributed_cls.training.input import Source, train_batches
from distributed_cls.training.reporter import Events
from distributed_cls.training.sharding import rank_ranges
from tests.patience import PATIENCE

STEPS = 20
KEPT_EPOCHS = 2


class KeepingEvents(Events):
    """Keeps a copy of the checkpoints as they are when the epoch after ``KEPT_EPOCHS`` begins."""

    def __init__(self, fd: int, run_folder: Path) -> None:
        super().__init__(fd)
        self._run_folder = run_folder

    def emit(self, event: str, **values: Any) -> None:
        kept = self._run_folder / "kept"
        if event == "progress" and values["epoch"] == KEPT_EPOCHS + 1 and not kept.exists():
            shutil.copytree(self._run_folder / "checkpoints", kept)
        super().emit(event, **values)


def _train(strategy: tf.distribute.Strategy, model: Any, train: TrainConfig, source: Source, rank: int) -> Engine:
    keras.utils.set_random_seed(train.seed)
    engine = Engine(strategy, lambda: build(model, 8, 3), train, STEPS)
    batch = train.batch_size // engine.replicas
    batches = train_batches(source, train, rank=rank, batch=batch, steps=STEPS, first_epoch=0, threads=1)
    engine.train_call(iter(engine.distribute(batches)), tf.constant(STEPS), tf.constant(float(train.batch_size)))
    return engine


def _own(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in variables]


def steps(order: dict[str, Any], rank: int, world: int, folder: Path) -> None:
    """Train a plain model with two optimizers, and one with BatchNorm; leave what this rank holds of each."""
    config: Config = from_dict(order["config"])
    start._configure_runtime(config, 1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    shards = manifests.load(order["dataset"]).shards["train"]
    files = [f"{order['dataset']}/{shard.file}" for shard in shards]
    source = Source(files, rank_ranges([shard.records for shard in shards], world, rank), "png", 8)
    left: dict[str, list[np.ndarray]] = {}
    for optimizer in ("sgd", "adam"):
        train = TrainConfig(**{**order["config"]["train"], "optimizer": optimizer})
        engine = _train(strategy, DenseConfig(units=[16], dropout=0.0), train, source, rank)
        left[optimizer] = _own(engine.model.variables)
    engine = _train(strategy, CnnConfig(filters=[4, 4], units=8), config.train, source, rank)
    norm = engine.model.get_layer("block_0_norm").non_trainable_variables
    left["statistics_before"] = _own(norm)
    engine.average_statistics()
    left["statistics_after"] = _own(norm)
    left["trained"] = _own(engine.model.trainable_variables)
    left["overflow"] = _overflow(strategy, config.train, source, rank)
    left["frozen"] = _average_frozen(strategy, config.train, rank)
    np.savez(
        folder / f"rank-{rank}.npz", **{f"{name}.{i}": v for name, part in left.items() for i, v in enumerate(part)}
    )


def _overflow(strategy: tf.distribute.Strategy, train: TrainConfig, source: Source, rank: int) -> list[np.ndarray]:
    """Finished steps after one whose gradients overflow on rank 1 alone, and after the next one."""
    train = TrainConfig(**{**asdict(train), "mixed_precision": True})
    engine = Engine(strategy, lambda: build(DenseConfig(units=[]), 8, 3), train, STEPS)
    engine.optimizer.dynamic_scale.assign(float("inf") if rank == 1 else 1.0)
    batch = train.batch_size // engine.replicas
    batches = train_batches(source, train, rank=rank, batch=batch, steps=2, first_epoch=0, threads=1)
    iterator = iter(engine.distribute(batches))
    finished = []
    for _ in range(2):
        engine.train_call(iterator, tf.constant(1), tf.constant(float(train.batch_size)))
        finished.append(np.asarray(engine.optimizer.inner_optimizer.iterations))
        engine.optimizer.dynamic_scale.assign(1.0)
    return finished


def _average_frozen(strategy: tf.distribute.Strategy, train: TrainConfig, rank: int) -> list[np.ndarray]:
    """The frozen variables of a model, another value on each rank, after the statistics were averaged."""

    def half_frozen() -> keras.Model:
        model = build(CnnConfig(filters=[4, 4], units=8), 8, 3)
        for layer in model.layers[:4]:
            layer.trainable = False
        return model

    engine = Engine(strategy, half_frozen, train, STEPS)
    frozen = [variable for layer in engine.model.layers[:4] for variable in layer.variables]
    for variable in frozen:
        variable.assign(np.full(variable.shape, rank, np.float32))
    engine.average_statistics()
    return _own(frozen)


def main() -> None:
    work, folder = sys.argv[1], Path(sys.argv[2])
    place = json.loads(os.environ["TF_CONFIG"])
    rank, world = place["task"]["index"], len(place["cluster"]["worker"])
    order = {**json.loads((folder / "order.json").read_text()), "rank": rank, "world": world, "threads": 1}
    if work == "steps":
        steps(order, rank, world, folder)
    else:
        events = os.open(folder / f"rank-{rank}.jsonl", os.O_WRONLY | os.O_CREAT)
        start.perform(order, KeepingEvents(events, Path(order["run_folder"])))
    # Ranks leave together, and at once: TensorFlow takes a peer that leaves for a dead one, and its tear-down waits.
    (folder / f"done-{rank}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("done-*"))) < world and time.monotonic() < deadline:
        time.sleep(0.02)
    os._exit(0)
