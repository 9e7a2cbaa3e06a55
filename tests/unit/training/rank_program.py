"""One rank of the tests in test_ranks.py: the arguments are WORK and FOLDER; TF_CONFIG has its place.

``FOLDER/task.json`` is a task as the barrier room gives it. The rank leaves ``FOLDER/rank-K.*``.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.contracts import checkpoint, rank_task
from distributed_cls.contracts import manifest as manifests
from distributed_cls.contracts.checkpoint import DamagedCheckpoint
from distributed_cls.contracts.events import Event, Finished, TrainProgressed
from distributed_cls.contracts.rank_task import RankAssignment, RankTask
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from distributed_cls.training import start
from distributed_cls.training.input import Source, train_batches
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.sharding import RankLanes
from distributed_cls.training.train_graph import TrainGraph
from tests.patience import PATIENCE

STEPS = 20
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam"},
    "clipped": {"optimizer": "sgd", "clip_norm": 0.1},
    "averaged": {"optimizer": "sgd", "ema": 0.6},
    "mixed": {"optimizer": "sgd", "augment": "randaugment", "erase": 0.5, "mixup": 0.4, "cutmix": 1.0},
    "in_parts": {"optimizer": "adam", "accumulate": 3, "clip_norm": 0.1},
}
KEPT_EPOCHS = 2


class KeepingReporter(Reporter):
    """Keeps a copy of the checkpoints once there is one from within the epoch after ``KEPT_EPOCHS``.

    A checkpoint is taken after every second step. So before the report of a third step is sent only the one of the
    step before is being written, and no further one begins: the copy is made once it is there.
    """

    def __init__(self, fd: int, run_folder: Path) -> None:
        super().__init__(fd)
        self._run_folder = run_folder
        self._reports = 0  # of the epoch in question

    def send(self, event: Event) -> None:
        if isinstance(event, TrainProgressed) and event.epoch == KEPT_EPOCHS + 1:
            self._reports += 1
            if self._reports == 3:
                self._keep(event.step - 1)
        super().send(event)

    def _keep(self, step: int) -> None:
        checkpoints, deadline = self._run_folder / "checkpoints", time.monotonic() + PATIENCE
        while _newest_step(checkpoints) != step:
            assert time.monotonic() < deadline, f"no checkpoint of step {step}"
            time.sleep(0.01)
        shutil.copytree(checkpoints, self._run_folder / "kept")


def _newest_step(checkpoints: Path) -> int | None:
    with contextlib.suppress(DamagedCheckpoint):  # the file was renamed between listing and reading
        found = checkpoint.newest_position(checkpoints)
        return found[1].step if found else None
    return None


def _batches(replicated: ReplicatedModel, train: TrainConfig, source: Source, lanes: RankLanes, steps: int) -> Any:
    batches = train_batches(source, lanes, train, steps=steps, first_step=0, threads=1)
    return iter(replicated.distribute(batches))


def _train(
    strategy: tf.distribute.Strategy, model: Any, train: TrainConfig, source: Source, lanes: RankLanes
) -> ReplicatedModel:
    keras.utils.set_random_seed(train.seed)
    replicated = ReplicatedModel(strategy, lambda: build(model, 8, 3), train, STEPS)
    TrainGraph(replicated, train).train_call(_batches(replicated, train, source, lanes, STEPS), tf.constant(STEPS))
    return replicated


def _own(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in variables]


def steps(task: RankTask, rank: int, world_size: int, folder: Path) -> None:
    """Train a plain model with two optimizers, and one with BatchNorm; leave what this rank holds of each."""
    config = task.config
    start.configure_runtime(config, 1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    manifest = manifests.load(task.dataset)
    source = start.open_sources(manifest, task.dataset, config, rank, world_size, lambda done, total: None)["train"]
    lanes = RankLanes(
        STEPS * config.train.batch_size, config.train.lane_count, config.train.batch_size, world_size, rank
    )
    left: dict[str, list[np.ndarray]] = {}
    replicated = ReplicatedModel(strategy, lambda: build(DenseConfig(units=[]), 8, 3), config.train, STEPS)
    left["collectives_of_input"] = [_collectives_of_input(_batches(replicated, config.train, source, lanes, STEPS))]
    for name, settings in OPTIMIZERS.items():
        train = dataclasses.replace(config.train, **settings)
        replicated = _train(strategy, DenseConfig(units=[16], dropout=0.0), train, source, lanes)
        left[name] = _own(replicated.judged_variables)
    replicated = _train(strategy, CnnConfig(filters=[4, 4], units=8), config.train, source, lanes)
    norm = replicated.model.get_layer("block_0_norm").non_trainable_variables
    left["statistics_before"] = _own(norm)
    replicated.average_statistics()
    left["statistics_after"] = _own(norm)
    left["trained"] = _own(replicated.model.trainable_variables)
    train = dataclasses.replace(config.train, sync_batch_norm=True)
    synced = _train(strategy, CnnConfig(filters=[4, 4], units=8, dropout=0.0), train, source, lanes)
    left["synced"] = _own(synced.model.variables)
    left["overflow"] = _overflow(strategy, config.train, source, lanes)
    left["frozen"] = _average_frozen(strategy, config.train, rank)
    np.savez(
        folder / f"rank-{rank}.npz", **{f"{name}.{i}": v for name, part in left.items() for i, v in enumerate(part)}
    )


def _collectives_of_input(batches: Any) -> np.ndarray:
    """How many operations in which ranks wait for each other the graph has that takes a batch."""
    graph = tf.function(lambda batches: next(batches)).get_concrete_function(batches).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return np.array(sum("Collective" in node.op for node in nodes))


def _overflow(
    strategy: tf.distribute.Strategy, train: TrainConfig, source: Source, lanes: RankLanes
) -> list[np.ndarray]:
    """Finished steps after one whose gradients overflow on rank 1 alone, and after the next one."""
    train = dataclasses.replace(train, mixed_precision=True)
    replicated = ReplicatedModel(strategy, lambda: build(DenseConfig(units=[]), 8, 3), train, STEPS)
    replicated.optimizer.dynamic_scale.assign(float("inf") if lanes.rank == 1 else 1.0)
    iterator = _batches(replicated, train, source, lanes, 2)
    graph = TrainGraph(replicated, train)
    finished = []
    for _ in range(2):
        graph.train_call(iterator, tf.constant(1))
        finished.append(np.asarray(replicated.optimizer.inner_optimizer.iterations))
        replicated.optimizer.dynamic_scale.assign(1.0)
    return finished


def _average_frozen(strategy: tf.distribute.Strategy, train: TrainConfig, rank: int) -> list[np.ndarray]:
    """The frozen variables of a model, another value on each rank, after the statistics were averaged."""

    def half_frozen() -> keras.Model:
        model = build(CnnConfig(filters=[4, 4], units=8), 8, 3)
        for layer in model.layers[:4]:
            layer.trainable = False
        return model

    replicated = ReplicatedModel(strategy, half_frozen, train, STEPS)
    frozen = [variable for layer in replicated.model.layers[:4] for variable in layer.variables]
    for variable in frozen:
        variable.assign(np.full(variable.shape, rank, np.float32))
    replicated.average_statistics()
    return _own(frozen)


def main() -> None:
    work, folder = sys.argv[1], Path(sys.argv[2])
    place = json.loads(os.environ["TF_CONFIG"])
    rank, world_size = place["task"]["index"], len(place["cluster"]["worker"])
    task = rank_task.load_task((folder / "task.json").read_text())
    if work == "steps":
        steps(task, rank, world_size, folder)
    else:
        reporter = KeepingReporter(
            os.open(folder / f"rank-{rank}.jsonl", os.O_WRONLY | os.O_CREAT), Path(task.run_folder)
        )
        result = start.perform(RankAssignment(task, rank, world_size), reporter)
        reporter.send(Finished(result=result))
    # Ranks leave together, and at once: TensorFlow takes a peer that leaves for a dead one, and its tear-down waits.
    (folder / f"done-{rank}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob("done-*"))) < world_size and time.monotonic() < deadline:
        time.sleep(0.02)
    os._exit(0)
