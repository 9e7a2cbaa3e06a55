"""What experiment trackers are given, read back through their own programs; and that they never hold up a run."""

import dataclasses
import logging
import threading
import time
from pathlib import Path

import pytest

from distributed_cls.config import Config, JobConfig, TrackingConfig
from distributed_cls.contracts.events import EpochEnded, Metrics
from distributed_cls.contracts.status import State
from distributed_cls.contracts.summary import SplitEntry, Summary
from distributed_cls.errors import UserError
from distributed_cls.run import tracker_feed
from distributed_cls.run.tracker_feed import Tracking
from tests.patience import PATIENCE

TEST = SplitEntry(
    examples=10,
    correct=9,
    accuracy=0.9,
    accuracy_interval=[0.6, 1.0],
    loss=0.25,
    top_k=5,
    top_k_accuracy=1.0,
    balanced_accuracy=0.9,
    macro_f1=0.8,
    calibration_error=0.1,
)
SUMMARY = Summary("pipeline", {"total": 12.5}, {}, test=TEST)


def _epochs(*losses: float) -> list[EpochEnded]:
    return [
        EpochEnded(split=split, epoch=epoch, step=epoch * 7, values=Metrics(loss, 1 - loss))
        for epoch, loss in enumerate(losses, 1)
        for split in ("train", "val")
    ]


def _config(**values: object) -> Config:
    # A busy machine takes a minute to import MLflow.
    return Config(tracking=TrackingConfig(timeout=PATIENCE, **values))  # type: ignore[arg-type]


def _run(config: Config, folder: Path, losses: tuple[float, ...], sweep: Path | None = None) -> None:
    tracked = tracker_feed.make(config, folder, sweep)
    with tracked.following():
        tracked.begin()
        for event in _epochs(*losses):
            tracked(event)
        tracked.result(SUMMARY)


def test_tensorboard_reads_the_event_files(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    _run(_config(name="tensorboard"), tmp_path, (0.5, 0.25))

    def points(split: str, tag: str) -> list[tuple[int, float]]:
        read = accumulator(str(tmp_path / "tensorboard" / split))
        read.Reload()
        return [(point.step, point.value) for point in read.Scalars(tag)]

    assert points("train", "loss") == [(7, 0.5), (14, 0.25)]
    assert points("val", "accuracy") == [(7, 0.5), (14, 0.75)]
    assert points("test", "kept model/accuracy") == [(14, pytest.approx(0.9))]


def test_mlflow_has_parameters_metrics_and_files_and_a_resumed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("mlflow").MlflowClient
    monkeypatch.chdir(tmp_path)  # MLflow keeps the files of a local store in mlruns/
    uri, sweep = f"sqlite:///{tmp_path}/store.db", tmp_path / "o'sweep"
    folder = sweep / "0"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    config = _config(name="mlflow", uri=uri, experiment="clothes")
    _run(config, folder, (0.5,), sweep)
    # The same run with more epochs: MLflow refuses to change a parameter, and must not be asked to.
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=99))
    _run(longer, folder, (0.5, 0.25), sweep)
    store = client(uri)
    experiment = store.get_experiment_by_name("clothes").experiment_id
    runs = {run.info.run_name: run for run in store.search_runs([experiment])}
    assert set(runs) == {"0", "sweep o'sweep"}
    trial = runs["0"]
    assert trial.data.tags["mlflow.parentRunId"] == runs["sweep o'sweep"].info.run_id
    assert trial.info.status == "FINISHED"
    assert trial.data.params["train.epochs"] == str(config.train.epochs) and trial.data.params["model.name"] == "cnn"
    assert trial.data.metrics["best_test_accuracy"] == 0.9 and trial.data.metrics["seconds_total"] == 12.5
    history = store.get_metric_history(trial.info.run_id, "val_loss")
    assert {(point.step, point.value) for point in history} == {(7, 0.5), (14, 0.25)}
    assert [file.path for file in store.list_artifacts(trial.info.run_id)] == ["summary.json"]


class _Tracker:
    """Waits, or fails, at the first epoch."""

    def __init__(self, wait: threading.Event | None = None) -> None:
        self._wait = wait
        self.ended: list[State] = []

    def metrics(self, split: str, epoch: int, step: int, values: Metrics) -> None:
        if self._wait is None:
            raise ConnectionError("the server\nis gone")
        self._wait.wait(PATIENCE)

    def result(self, summary: Summary) -> None:
        pass

    def end(self, state: State) -> None:
        self.ended.append(state)


def test_a_store_that_fails_is_told_once_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    tracked = Tracking(_Tracker, "tracking=x", timeout=PATIENCE)
    with caplog.at_level(logging.WARNING), tracked.following():
        tracked.begin()
        for event in _epochs(0.5, 0.25):
            tracked(event)
    assert [record.getMessage() for record in caplog.records] == [
        "tracking=x failed, and the rest of this run is not tracked: ConnectionError: the server is gone"
    ]


def test_a_slow_store_holds_up_nothing_but_the_end(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    tracker = _Tracker(released)
    tracked = Tracking(lambda: tracker, "tracking=x", timeout=0.2)
    with caplog.at_level(logging.WARNING), tracked.following():
        tracked.begin()
        began = time.monotonic()
        for event in _epochs(*[0.5] * 1000):
            tracked(event)
        assert time.monotonic() - began < PATIENCE / 2  # the store takes that for its first point
    assert "not everything was noted within 0.2 s" in caplog.text
    released.set()


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("x"), State.FAILED), (KeyboardInterrupt(), State.INTERRUPTED)]
)
def test_how_a_run_ended_is_noted(error: BaseException, state: State) -> None:
    tracker = _Tracker(threading.Event())
    tracked = Tracking(lambda: tracker, "tracking=x", timeout=PATIENCE)
    with pytest.raises(type(error)), tracked.following():
        tracked.begin()
        raise error
    assert tracker.ended == [state]


def test_a_store_that_is_not_there_is_refused_before_the_ranks_start(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "file").touch()
    config = _config(name="mlflow", uri=f"sqlite:///{tmp_path}/file/store.db")
    with pytest.raises(UserError, match=r"Expected a store for tracking=mlflow .* Set tracking\.uri"):
        tracker_feed.make(config, tmp_path, None).begin()


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_feed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="Install the extra tracking"):
        tracker_feed.make(_config(name="tensorboard"), tmp_path, None)


def test_jobs_without_ranks_are_not_tracked(tmp_path: Path) -> None:
    config = dataclasses.replace(_config(name="tensorboard"), job=JobConfig(name="prepare"))
    _run(config, tmp_path, (0.5,))
    assert not list(tmp_path.iterdir())
