"""A cluster that shrinks and grows while it trains: the same batches and steps, whatever the number of ranks."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.supervisor import Outcome, run_ranks
from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import AttemptStarted, EpochEnded, Event, ProcessStarted
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.models.dense import DenseConfig
from distributed_cls.spark import internals
from distributed_cls.spark.session import Session
from tests.patience import PATIENCE
from tests.shards import records, write_dataset

EPOCHS = 12
CLUSTER = ClusterConfig(
    name="shrinking", master="local-cluster[2,1,1024]", workers=2, min_workers=1, slot_timeout=3.0, max_attempts=3
)


@dataclass
class Cluster:
    """Two executors of a real cluster, and a data set."""

    spark: Any
    data: Path
    manifest: Manifest

    def slots(self, wanted: int) -> None:
        """Have as many executors: one that is not wanted is ended, and its cluster starts no other one."""
        context = self.spark.sparkContext._jsc.sc()
        if wanted < internals.max_concurrent_tasks(self.spark):
            assert context.killExecutor(context.getExecutorIds().head())
        else:
            assert context.requestExecutors(1)
        self.await_slots(wanted)

    def await_slots(self, wanted: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while internals.max_concurrent_tasks(self.spark) != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def train(self, folder: Path, react: Callable[["Seen", EpochEnded], None] = lambda seen, event: None) -> "Seen":
        """Train; ``react`` is called at the end of each epoch, while the ranks of one worker stand still."""
        folder.mkdir()
        train = TrainConfig(epochs=EPOCHS, batch_size=16, learning_rate=0.01, checkpoint_seconds=None)
        config = Config(
            data=DataConfig(image_size=8), model=DenseConfig(units=[16], dropout=0.0), train=train, cluster=CLUSTER
        )
        task = RankTask(config, str(self.data), self.manifest.fingerprint, str(folder), (Step.TRAIN, Step.EVALUATE))
        seen = Seen()

        def listen(event: Event) -> None:
            match event:
                case AttemptStarted():
                    seen.workers.append(event.workers)
                case ProcessStarted():
                    seen.pids[event.rank] = event.pid
                case EpochEnded(split="val"):
                    seen.epochs.append((event.epoch, event.step, seen.workers[-1]))
                    react(seen, event)

        crew = Crew(CLUSTER)
        try:
            seen.outcome = run_ranks(self.spark, task, crew, listen)
        finally:
            crew.close()
        with np.load(folder / "checkpoints" / checkpoint.LAST) as stored:
            # Adam's moments, which are nearly zero by now, are not compared: nothing but rounding is left of them.
            seen.weights = {name: stored[name] for name in stored.files if name.endswith((":kernel", ":bias"))}
        return seen


@dataclass
class Seen:
    """What was seen of a run."""

    workers: list[int] = field(default_factory=list)  # of each attempt
    epochs: list[tuple[int, int, int]] = field(default_factory=list)  # that ended: number, step, workers
    pids: dict[int, int] = field(default_factory=dict)
    outcome: Outcome | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    before, folder = dict(os.environ), tmp_path_factory.mktemp("shrinking")
    parts = [records(count, seed=seed) for seed, count in enumerate([64, 64, 21, 19])]
    manifest = write_dataset(folder / "data", {"train": parts[:2], "val": [parts[2]], "test": [parts[3]]})
    session = Session(CLUSTER, folder / "session")
    try:
        # Spark counts from what was asked for; from nothing at all the next request would be taken for the total.
        assert session.spark.sparkContext._jsc.sc().requestExecutors(2)
        made = Cluster(session.spark, folder / "data", manifest)
        made.await_slots(2)
        yield made
    finally:
        session.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    seen = cluster.train(tmp_path_factory.mktemp("undisturbed") / "run")
    assert seen.workers == [2]
    return seen


def test_training_goes_on_with_fewer_workers_and_with_all_again(
    cluster: Cluster, undisturbed: Seen, tmp_path: Path
) -> None:

    def react(seen: Seen, event: EpochEnded) -> None:
        if seen.workers == [2] and event.epoch == 2:
            cluster.slots(1)
        elif seen.workers == [2, 1] and seen.epochs[-2][2] == 2:  # the first epoch of one worker alone
            os.kill(seen.pids[0], signal.SIGSTOP)  # or it would be through before the slots are back
            cluster.slots(2)
            os.kill(seen.pids[0], signal.SIGCONT)

    disturbed = cluster.train(tmp_path / "disturbed", react)
    assert disturbed.workers == [2, 1, 2]
    _assert_same(disturbed, undisturbed)
    assert disturbed.outcome is not None and disturbed.outcome.workers == 2
    failed = disturbed.outcome.failed_attempts
    assert [(attempt.number, attempt.workers) for attempt in failed] == [(1, 2), (2, 1)]
    # The agent of the lost executor gets a checkpoint out of the ranks, unless its loss is noticed first.
    assert failed[0].cause in ("interrupted", "stage", "error")
    assert failed[1].cause == "resized"
    assert "Slots for 2 workers are back" in failed[1].message


def test_training_ends_with_fewer_workers_when_the_slots_stay_away(
    cluster: Cluster, undisturbed: Seen, tmp_path: Path
) -> None:
    disturbed = cluster.train(
        tmp_path / "disturbed", lambda seen, event: cluster.slots(1) if seen.epochs[-1:] == [(2, 16, 2)] else None
    )
    assert disturbed.workers == [2, 1]
    _assert_same(disturbed, undisturbed)
    assert disturbed.outcome is not None
    assert disturbed.outcome.workers == 1
    assert {split: counted.counts.examples for split, counted in disturbed.outcome.result.counts.items()} == {
        "val": 21,
        "test": 19,
    }
    cluster.slots(2)


def _assert_same(disturbed: Seen, undisturbed: Seen) -> None:
    """The same steps, each epoch once or again, and the same weights but for the rounding of sums."""
    assert {(epoch, step) for epoch, step, _ in disturbed.epochs} == {
        (epoch, step) for epoch, step, _ in undisturbed.epochs
    }
    assert len(undisturbed.weights) == 4 and disturbed.weights.keys() == undisturbed.weights.keys()
    for name, weights in undisturbed.weights.items():
        distance = np.linalg.norm(disturbed.weights[name] - weights)
        assert distance <= 1e-5 * np.linalg.norm(weights), name
