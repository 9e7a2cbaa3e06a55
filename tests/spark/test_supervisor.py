"""Real barrier stages on a real Spark: ranks that are killed, that fall silent, that do not fit together."""

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed_cls.barrier import slow_ranks
from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.supervisor import Outcome, run_ranks
from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts.events import (
    AttemptStarted,
    EpochEnded,
    Event,
    MistakesFound,
    Noted,
    ProcessStarted,
    RankSlow,
)
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.errors import RunError, UserError
from distributed_cls.models.dense import DenseConfig
from distributed_cls.spark import internals, preflight
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
    """Runs stages in a run folder, and keeps the events of their ranks."""

    def __init__(self, spark: Any, data: tuple[Path, Manifest], run_folder: Path) -> None:
        self._spark, self._data = spark, data
        self.run_folder = run_folder
        self.events: list[Event] = []
        self.react: Callable[[Event], None] = lambda event: None

    def run(
        self, *, fingerprint: str | None = None, learning_rate: float = 0.01, epochs: int = EPOCHS, **cluster: Any
    ) -> Outcome:
        chosen = ClusterConfig(**{"master": "local[2]", "workers": 2, **cluster})
        config = Config(
            data=DataConfig(image_size=8),
            model=DenseConfig(units=[16], dropout=0.0),
            train=TrainConfig(epochs=epochs, batch_size=16, learning_rate=learning_rate),
            cluster=chosen,
        )
        task = RankTask(
            config,
            str(self._data[0]),
            fingerprint or self._data[1].fingerprint,
            str(self.run_folder),
            (Step.TRAIN, Step.EVALUATE),
        )
        crew = Crew(chosen)
        crew.warm_up()
        try:
            return run_ranks(self._spark, task, crew, self._listen)
        finally:
            crew.close()

    def _listen(self, event: Event) -> None:
        self.events.append(event)
        self.react(event)

    def pids(self) -> dict[int, int]:
        """The process of each rank in the last attempt."""
        return {event.rank: event.pid for event in self.events if isinstance(event, ProcessStarted)}

    def once(self, epoch: int, number: signal.Signals, rank: int) -> None:
        """Send a signal to a rank's process when an epoch has ended, once."""

        def react(event: Event) -> None:
            if isinstance(event, EpochEnded) and event.epoch == epoch:
                os.kill(self.pids()[rank], number)
                self.react = lambda event: None

        self.react = react

    def assert_nothing_is_left(self) -> None:
        started = [event.pid for event in self.events if isinstance(event, ProcessStarted)]
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
    [failed] = outcome.failed_attempts
    assert failed.number == 1 and failed.cause == "died" and failed.seconds > 0
    assert "Rank 1 on 127.0.0.1 failed in train" in failed.message and "signal SIGKILL" in failed.message
    assert failed.message in caplog.text
    assert "Starting the ranks again from their last state (2 of 2)" in caplog.text
    trained = [event.epoch for event in stage.events if isinstance(event, EpochEnded) and event.split == "train"]
    second = trained[trained.index(2) + 1 :]
    assert second[-1] == EPOCHS
    assert second == list(range(second[0], EPOCHS + 1)) and second[0] > 1  # continued, not begun again
    assert outcome.result.train is not None
    assert (outcome.result.train.epochs, outcome.result.train.steps) == (EPOCHS, EPOCHS * 128 // 16)
    counts = {split: counted.counts for split, counted in outcome.result.counts.items()}
    assert [counts[split].examples for split in ("val", "test")] == [21, 19]
    assert counts["test"].correct > 0.6 * 19  # stripes are easy; guessing gives a third
    assert any(event.text.startswith("Resumed from ") for event in stage.events if isinstance(event, Noted))
    assert {event.rank for event in stage.events if isinstance(event, MistakesFound)} == {0, 1}
    times = [event.time for event in stage.events]
    assert times == sorted(times)  # all by the driver's clock
    stage.assert_nothing_is_left()


def test_a_rank_that_is_asked_to_end_leaves_a_checkpoint_and_is_replaced(stage: Stage) -> None:
    stage.once(2, signal.SIGTERM, rank=1)
    outcome = stage.run()
    [failed] = outcome.failed_attempts
    assert failed.cause == "interrupted"
    found = re.match(r"Rank 1 of 2 had to end \(SIGTERM\): a checkpoint is at step (\d+)$", failed.message)
    assert found is not None, failed.message
    [resumed] = [event.text for event in stage.events if isinstance(event, Noted) and event.text.startswith("Resumed")]
    assert f"at step {int(found[1])} in" in resumed  # no step is lost
    assert outcome.result.train is not None and outcome.result.train.steps == EPOCHS * 128 // 16
    stage.assert_nothing_is_left()


def test_a_rank_that_stands_still_is_named(stage: Stage) -> None:
    stage.once(1, signal.SIGSTOP, rank=1)
    with pytest.raises(RunError) as raised:
        # Not much less: until the signal there are steps and traces in which a busy machine shows nothing for seconds.
        stage.run(stall_timeout=30.0, max_attempts=1)
    message = str(raised.value)
    # The driver's limit, or TensorFlow's own on the other rank, whichever is first.
    by_limit = r"No rank made progress for \d+ s \(cluster\.stall_timeout=30\); no heartbeat from "
    assert re.match(rf"({by_limit}|No heartbeat from )rank 1 on 127\.0\.0\.1, pid {stage.pids()[1]}: train", message)
    assert "attempt 1 of 1, the last" in message
    stage.assert_nothing_is_left()


class _Enough(Exception):
    """What the test waits for has been seen: the run need not come to its end."""


def test_a_rank_that_is_slowed_to_a_third_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_ranks, "_WINDOW_SECONDS", 2.0)
    named = threading.Event()

    def slow_down(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            while not named.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.02)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.01)

    slowed: list[threading.Thread] = []

    def react(event: Event) -> None:
        if isinstance(event, EpochEnded) and not slowed:
            slowed.append(threading.Thread(target=slow_down, args=(stage.pids()[1],)))
            slowed[0].start()
        if isinstance(event, RankSlow) and event.rank == 1:
            raise _Enough

    stage.react = react
    try:
        with pytest.raises(_Enough):
            stage.run(epochs=100_000)
    finally:
        named.set()
        slowed[0].join()
    # In windows as short as these a busy machine may slow down the other rank as well.
    [slow] = [event for event in stage.events if isinstance(event, RankSlow) and event.rank == 1]
    assert slow.host == "127.0.0.1" and slow.factor >= 1.5


def test_ranks_that_see_another_data_set_refuse_before_any_process_starts(stage: Stage) -> None:
    with pytest.raises(
        UserError, match=r"Expected dataset=another on every rank\. Received: dataset=[0-9a-f]+ on rank 0"
    ):
        stage.run(fingerprint="another")
    assert [event.number for event in stage.events if isinstance(event, AttemptStarted)] == [1]
    assert stage.pids() == {}


def test_a_loss_that_is_not_finite_is_not_tried_again(stage: Stage) -> None:
    with pytest.raises(RunError, match=r"Expected a finite loss\. Received: (nan|inf)") as raised:
        stage.run(learning_rate=1e30, max_attempts=3)
    assert "train.learning_rate=1e+30" in str(raised.value) and "Last good checkpoint" in str(raised.value)
    assert [event.number for event in stage.events if isinstance(event, AttemptStarted)] == [1]
    stage.assert_nothing_is_left()


# ── preflight ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_slots_are_counted_and_too_few_are_refused_at_once(spark: Any) -> None:
    assert internals.max_concurrent_tasks(spark) == 2
    preflight.check(spark, CLUSTER)
    with pytest.raises(
        UserError, match=r"Expected 3 slots on local\[2\] \(cluster\.workers\)\. Received: 2\. Set cluster"
    ):
        preflight.check(spark, ClusterConfig(master="local[2]", workers=3, slot_timeout=3600))


def test_threads_of_a_rank_are_its_share_of_the_slots(spark: Any) -> None:
    assert preflight.threads_per_rank(spark, CLUSTER) == 1
    assert preflight.threads_per_rank(spark, ClusterConfig(workers=1)) == 2
    assert preflight.threads_per_rank(spark, ClusterConfig(workers=2, cores_per_worker=5)) == 5
