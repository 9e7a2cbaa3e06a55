"""Real barrier stages on a real Spark: ranks that are killed, that fall silent, that do not fit together."""

import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from distributed_cls.barrier.supervisor import run_stage
from distributed_cls.config import ClusterConfig, Config, DataConfig, DenseConfig, TrainConfig, to_dict
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import preflight
from distributed_cls.spark.session import Session
from tests.patience import PATIENCE
from tests.shards import records, write_dataset

EPOCHS = 8
CLUSTER = ClusterConfig(master="local[2]", workers=2)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    before = dict(os.environ)
    session = Session(CLUSTER, tmp_path_factory.mktemp("session"))
    try:
        yield session.spark
    finally:
        session.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("stage") / "data"
    parts = [records(count, seed=seed) for seed, count in enumerate([64, 64, 21, 19])]
    return folder, write_dataset(folder, {"train": parts[:2], "val": [parts[2]], "test": [parts[3]]})


class Stage:
    """Runs stages in a run folder, and keeps what their ranks told."""

    def __init__(self, spark: Any, data: tuple[Path, Manifest], run_folder: Path) -> None:
        self._spark, self._data = spark, data
        self.run_folder = run_folder
        self.events: list[dict[str, Any]] = []
        self.react: Callable[[dict[str, Any]], None] = lambda event: None

    def run(self, *, fingerprint: str | None = None, **cluster: Any) -> Any:
        chosen = ClusterConfig(**{"master": "local[2]", "workers": 2, **cluster})
        config = Config(
            data=DataConfig(image_size=8),
            model=DenseConfig(units=[16], dropout=0.0),
            train=TrainConfig(epochs=EPOCHS, batch_size=16, learning_rate=0.01),
            cluster=chosen,
        )
        order = {
            "config": to_dict(config),
            "dataset": str(self._data[0]),
            "run_folder": str(self.run_folder),
            "work": ["train", "evaluate"],
            "checkpoint": None,
        }
        return run_stage(self._spark, order, fingerprint or self._data[1].fingerprint, chosen, self._listen)

    def _listen(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.react(event)

    def pids(self) -> dict[int, int]:
        """The process of each rank in the last attempt."""
        return {event["rank"]: event["pid"] for event in self.events if event["event"] == "started"}

    def once(self, epoch: int, number: signal.Signals, rank: int) -> None:
        """Send a signal to a rank's process when an epoch has ended, once."""

        def react(event: dict[str, Any]) -> None:
            if event["event"] == "epoch" and event["epoch"] == epoch:
                os.kill(self.pids()[rank], number)
                self.react = lambda event: None

        self.react = react

    def assert_nothing_is_left(self) -> None:
        started = [event["pid"] for event in self.events if event["event"] == "started"]
        deadline = time.monotonic() + PATIENCE
        while any(psutil.pid_exists(pid) for pid in started):
            assert time.monotonic() < deadline, started
            time.sleep(0.05)


@pytest.fixture
def stage(spark: Any, data: tuple[Path, Manifest], tmp_path: Path) -> Stage:
    return Stage(spark, data, tmp_path)


def test_a_killed_rank_is_named_and_the_stage_goes_on_from_its_checkpoint(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.once(2, signal.SIGKILL, rank=1)
    with caplog.at_level(logging.WARNING):
        outcome = stage.run()
    assert outcome.attempts == 2
    assert "Rank 1 on 127.0.0.1 failed in train" in caplog.text
    assert "signal SIGKILL" in caplog.text and "Starting the stage again" in caplog.text
    trained = [event["epoch"] for event in stage.events if event["event"] == "epoch" and event["split"] == "train"]
    second = trained[trained.index(2) + 1 :]
    assert second[-1] == EPOCHS
    assert second == list(range(second[0], EPOCHS + 1)) and second[0] > 1  # continued, not begun again
    assert outcome.result["train"]["epochs"] == EPOCHS
    assert outcome.result["train"]["steps"] == EPOCHS * 128 // 16
    assert [outcome.result[split]["examples"] for split in ("val", "test")] == [21, 19]
    assert outcome.result["test"]["correct"] > 0.6 * 19  # stripes are easy; guessing gives a third
    assert any("Resumed after epoch" in event.get("line", "") for event in stage.events)
    assert {event["rank"] for event in stage.events if event["event"] == "mistakes"} == {0, 1}
    stage.assert_nothing_is_left()


def test_a_rank_that_stands_still_is_named_as_silent(stage: Stage) -> None:
    stage.once(1, signal.SIGSTOP, rank=1)
    with pytest.raises(RunError) as raised:
        # Not much less: until the signal there are steps and traces in which a busy machine shows nothing for seconds.
        stage.run(stall_timeout=30.0, max_attempts=1)
    message = str(raised.value)
    # The driver's limit, or TensorFlow's own on the other rank, whichever is first.
    by_limit = r"No rank made progress for \d+ s \(cluster\.stall_timeout=30\); silent: "
    assert re.match(rf"({by_limit}|No sign of life from )rank 1 on 127\.0\.0\.1, pid {stage.pids()[1]}: train", message)
    assert "attempt 1 of 1, the last" in message
    stage.assert_nothing_is_left()


def test_ranks_that_see_another_data_set_refuse_before_any_process_starts(stage: Stage) -> None:
    with pytest.raises(
        UserError, match=r"Expected dataset=another on every rank\. Received: dataset=[0-9a-f]+ on rank 0"
    ):
        stage.run(fingerprint="another")
    assert [event["number"] for event in stage.events if event["event"] == "attempt"] == [1]
    assert stage.pids() == {}


# ── preflight ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_slots_are_counted_and_too_few_are_refused_at_once(spark: Any) -> None:
    assert preflight.slots(spark) == 2
    preflight.check(spark, CLUSTER)
    with pytest.raises(
        UserError, match=r"Expected 3 slots on local\[2\] \(cluster\.workers\)\. Received: 2\. Set cluster"
    ):
        preflight.check(spark, ClusterConfig(master="local[2]", workers=3, slot_timeout=3600))


def test_threads_of_a_rank_are_its_share_of_the_slots(spark: Any) -> None:
    assert preflight.threads_per_rank(spark, CLUSTER) == 1
    assert preflight.threads_per_rank(spark, ClusterConfig(workers=1)) == 2
    assert preflight.threads_per_rank(spark, ClusterConfig(workers=2, cores_per_worker=5)) == 5


@pytest.mark.parametrize(
    ("properties", "gpus", "message"),
    [
        ({"spark.dynamicAllocation.enabled": "TRUE"}, 0, "Set spark.dynamicAllocation.enabled=false."),
        ({"spark.ssl.enabled": "true"}, 0, "set spark.ssl.enabled=false."),
        ({}, 1, "Expected spark.task.resource.gpu.amount=1 (cluster.gpus_per_worker). Received: "),
        ({"spark.task.resource.gpu.amount": "0.5"}, 1, "Received: spark.task.resource.gpu.amount=0.5."),
    ],
)
def test_properties_that_a_barrier_stage_cannot_run_on(properties: dict[str, str], gpus: int, message: str) -> None:
    spark = SimpleNamespace(sparkContext=SimpleNamespace(getConf=lambda: properties))
    with pytest.raises(UserError) as raised:
        preflight.check(spark, ClusterConfig(gpus_per_worker=gpus))
    assert message in str(raised.value)
