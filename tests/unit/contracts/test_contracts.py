"""Every contract is written and read again, unchanged; what is damaged or newer is refused; what is older is read."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts import (
    checkpoint,
    codec,
    evaluation_result,
    events,
    fork_request,
    orders,
    rank_predictions,
    rank_task,
    summary,
)
from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.counts import BINS, ConfidenceBins, Counts
from distributed_cls.contracts.evaluation_counts import EvaluationCounts, ProbabilityCounts
from distributed_cls.contracts.evaluation_result import EvaluatedSplit
from distributed_cls.contracts.events import Event, Metrics, Mistake, Phase
from distributed_cls.contracts.fork_request import Exited, Forked, ForkRequest, SignalRequest
from distributed_cls.contracts.orders import Order
from distributed_cls.contracts.rank_facts import RankFacts
from distributed_cls.contracts.rank_task import RankAssignment, RankResult, RankTask, Step, TrainResult
from distributed_cls.errors import RunError, UserError

TRAINED = TrainResult(3, 27, 2, loss=0.5, accuracy=0.75, learning_rate=1e-4, images_per_second=2000.0, val_accuracy=0.9)

PROBABILITIES = ProbabilityCounts([3.5, 0.0, 12.0], 9.5, ConfidenceBins(), accepted=40, accepted_correct=30)
MISTAKE = Mistake("iVBOR", "ab" * 16, 3, 8, 0.99)


def some_counts(seed: int, classes: int = 3) -> Counts:
    """Counts of random predictions, as an evaluation would make them."""
    rng = np.random.default_rng(seed)
    true, predicted, confidence = rng.integers(0, classes, 50), rng.integers(0, classes, 50), rng.random(50)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    filled = ConfidenceBins(
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, weights=true == predicted, minlength=BINS).astype(np.int64),
        np.bincount(bins, weights=confidence, minlength=BINS),
    )
    return Counts(confusion, loss_sum=float(rng.random()), top_k_correct=50, bins=filled)


EVENTS: list[Event] = [
    events.AttemptStarted(number=1, of=3, workers=2),
    events.PhaseStarted(rank=1, phase=Phase.RENDEZVOUS, host="10.0.0.7"),
    events.PhaseProgressed(rank=0, done=5, total=2**40),
    events.Met(rank=1, facts=RankFacts("10.0.0.7", 4711, "3.11.7", "2.21.0", "3.15.1", "0.1.0", "1", True, 0)),
    events.ProcessStarted(rank=1, host="10.0.0.7", pid=4711),
    events.ProcessEnded(rank=1, code=-9),
    events.Heartbeat(rank=0, step=12, images=96, seconds=0.5),
    events.Preempted(rank=1),
    events.RankSlow(rank=1, host="10.0.0.7", factor=3.1),
    events.LogLine(rank=0, line="W tensorflow \u2028 Citro\u00ebn \udce9".encode("utf-8", "replace").decode()),
    events.Noted(rank=0, text="global batch 128 = 2 ranks × 64"),
    events.TrainProgressed(rank=0, epoch=1, epochs=2, step=3, steps=18, values=Metrics(0.5, 0.75, 1234.5)),
    events.EpochEnded(rank=0, split="val", epoch=1, step=9, values=Metrics(0.25, 1.0)),
    events.MistakesFound(rank=1, split="test", items=(MISTAKE,)),
    events.Failed(rank=1, failure=events.FailureKind.DIVERGED, message="loss nan"),
    events.Finished(rank=0, result=RankResult(TRAINED)),
    events.Disconnected(rank=1),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_is_one_line_and_the_same_again(event: Event) -> None:
    line = events.dumps(event)
    assert "\n" not in line
    assert events.loads(line) == event
    kept = events.received(events.loads(line), rank=5, now=12.5)
    assert (kept.rank, kept.time) == (5, 12.5)
    assert dataclasses.replace(kept, rank=event.rank, time=event.time) == event


def test_every_kind_of_event_is_tried_above() -> None:
    assert {event.kind for event in EVENTS} == set(events._KINDS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "an event"),
        ('{"event": "melt"}', "melt"),
        ('{"event": "heartbeat", "v": 3, "step": 1}', "version"),
        ('{"event": "heartbeat", "v": 2}', "step"),
        ('{"event": "heartbeat", "v": 2, "step": "1"}', "a whole number"),
        ('{"event": "heartbeat", "v": 2, "step": true}', "a whole number"),
        ('{"event": "phase", "v": 2, "phase": "lunch"}', "one of starting"),
        ('{"event": "heartbeat", "v": 2, "step": 1, "pulse": 60}', "pulse"),
        ('{"event": "hea', "Unterminated"),
    ],
)
def test_a_line_that_is_no_event_is_refused(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        events.loads(line)


def test_a_measurement_of_the_first_version_is_read() -> None:
    line = (
        '{"event": "progress", "time": 1.5, "split": "train", "epoch": 1, "epochs": 2, "step": 9, "steps": 18, '
        '"values": {"loss": 1, "accuracy": 0.5, "images_per_second": 900.0}, "rank": 0}'
    )
    read = events.loads(line)
    assert isinstance(read, events.TrainProgressed)
    assert (read.values.loss, read.values.images_per_second, read.time) == (1.0, 900.0, 1.5)


def test_nan_is_no_number_of_a_contract() -> None:
    with pytest.raises(ValueError, match="JSON"):
        events.dumps(events.EpochEnded(split="val", epoch=1, step=9, values=Metrics(float("nan"), 0.0)))


def test_counts_add_up_over_ranks_as_over_images() -> None:
    parts = [some_counts(seed) for seed in range(4)]
    whole = parts[0] + parts[1] + parts[2] + parts[3]
    summed = Counts.from_vector(sum(part.to_vector() for part in parts))  # type: ignore[arg-type]
    assert whole.examples == 200 and whole.correct == sum(part.correct for part in parts)
    for one, other in ((whole, summed), (whole, Counts.from_plain(json.loads(codec.dumps(whole))))):
        assert one.examples == other.examples
        np.testing.assert_array_equal(one.confusion, other.confusion)
        np.testing.assert_array_equal(one.bins.count, other.bins.count)
        np.testing.assert_array_equal(one.bins.correct, other.bins.correct)
        np.testing.assert_allclose(one.bins.confidence, other.bins.confidence, rtol=1e-12)
        assert one.loss_sum == pytest.approx(other.loss_sum) and one.top_k_correct == other.top_k_correct
    assert (Counts.of_nothing(3) + parts[0]).to_plain() == parts[0].to_plain()
    assert Counts.of_nothing(3).accuracy == Counts.of_nothing(3).loss == 0.0


def test_counts_of_the_first_version_are_read_and_damaged_ones_refused() -> None:
    plain = some_counts(1).to_plain()
    older = {**plain, "top5_correct": plain["top_k_correct"], "split": "test"}
    del older["top_k"], older["top_k_correct"]
    assert Counts.from_plain(older).to_plain() == plain
    for name, value in (
        ("examples", 49),
        ("correct", 1000),
        ("confusion", [[1, 2]]),
        ("top_k_correct", 51),
        ("bins", {}),
    ):
        with pytest.raises(ValueError, match="expected"):
            Counts.from_plain({**plain, name: value})


def test_a_task_travels_with_its_configuration() -> None:
    config = Config(train=TrainConfig(epochs=7))
    task = RankTask(config, "/data/digits-1", "1", "/runs/a", (Step.TRAIN, Step.EXPORT), threads=3, plugins=("mine",))
    assert rank_task.load_task(rank_task.dump_task(task)) == task
    assignment = RankAssignment(task, 1, 2)
    line = rank_task.dump_assignment(assignment)
    assert "\n" not in line and rank_task.load_assignment(line) == assignment and rank_task.plugins_of(line) == ["mine"]
    with pytest.raises(ValueError, match="version"):
        rank_task.load_task(line.replace(f'"schema_version": {rank_task.SCHEMA_VERSION}', '"schema_version": 1', 1))


ENERGY = Confidence(2.5, 0.4, 0.95, RejectBy.ENERGY)


def test_a_result_travels_with_its_counts() -> None:
    result = RankResult(TRAINED, {"val": EvaluationCounts(some_counts(1), PROBABILITIES)}, ENERGY)
    attempt, event = orders.load_report(orders.dump_report(3, events.dumps(events.Finished(rank=1, result=result))))
    assert attempt == 3 and isinstance(event, events.Finished)
    assert event.result.train == TRAINED
    assert event.result.counts["val"].counts.to_plain() == some_counts(1).to_plain()
    assert codec.to_plain(event.result.counts["val"].probabilities) == codec.to_plain(PROBABILITIES)
    assert event.result.confidence == ENERGY


ORDERS: list[Order] = [
    orders.Meet(attempt=1, dataset="/data/digits-1", marker="/runs/Citroën/.marker-1/driver"),
    orders.StartRank(attempt=2, job="a", assignment='{"rank": 1}', tf_config="{}", hosts=["10.0.0.7", "::1"]),
    orders.StopRank(attempt=2, grace_seconds=12.5),
    orders.ReleaseRank(attempt=2),
    orders.DumpStacks(attempt=2),
    orders.Leave(attempt=0),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.kind)
def test_an_order_is_the_same_again_and_is_read_with_its_version_only(order: Order) -> None:
    text = orders.dumps(order)
    assert orders.loads(text) == order
    for damaged in (text.replace('"v": 2', '"v": 1'), text.replace('"attempt"', '"tempt"'), "[]", "{}"):
        with pytest.raises(ValueError, match="expected"):
            orders.loads(damaged)


@pytest.mark.parametrize("text", ["[]", "{}", '{"attempt": true, "event": {}}', '{"attempt": 1, "event": []}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        orders.load_report(text)


@pytest.mark.parametrize(
    "message", [ForkRequest({"A": "ä\n"}), SignalRequest(4711, 9), Forked(4711), Exited(4711, -9)], ids=lambda m: m.kind
)
def test_a_message_to_the_warm_process_is_one_line_and_the_same_again(message: fork_request.Message) -> None:
    line = fork_request.dumps(message)
    assert line.index(b"\n") == len(line) - 1 and fork_request.loads(line) == message
    with pytest.raises(ValueError, match="expected"):
        fork_request.loads(line.replace(b'"message"', b'"massage"'))


def test_an_evaluation_is_the_same_again_and_an_older_one_is_read(tmp_path: Path) -> None:
    evaluation_result.write(tmp_path, {"test": EvaluatedSplit(some_counts(1), [MISTAKE], PROBABILITIES)})
    read = evaluation_result.read(tmp_path, "")["test"]
    assert read.mistakes == [MISTAKE] and codec.to_plain(read.probabilities) == codec.to_plain(PROBABILITIES)
    assert read.counts.to_plain() == some_counts(1).to_plain()

    content = json.loads((tmp_path / "evaluation.json").read_text())
    del content["splits"]["test"]["probabilities"]
    (tmp_path / "evaluation.json").write_text(json.dumps({**content, "schema_version": 2}))
    older = evaluation_result.read(tmp_path, "")["test"]
    assert older.probabilities is None and older.mistakes == [MISTAKE]
    (tmp_path / "evaluation.json").write_text(json.dumps({**content, "schema_version": 4}))
    with pytest.raises(UserError, match="version 4"):
        evaluation_result.read(tmp_path, "")


def test_a_checkpoint_is_the_same_again_and_an_older_one_is_read(tmp_path: Path) -> None:
    arrays = {"00000:kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}
    position = checkpoint.Position(2, 18, 1, 0.5, 1.5, "1", Metrics(0.5, 0.75), {"train.seed": 3})
    checkpoint.write(tmp_path / "c" / "last.npz", arrays, position)
    read, stood = checkpoint.read(tmp_path / "c" / "last.npz")
    np.testing.assert_array_equal(read["00000:kernel"], arrays["00000:kernel"])
    assert stood == position and position.is_better(0.5, 1.0) and not position.is_better(0.5, 2.0)

    second = dataclasses.replace(position, first_phase=TRAINED)
    checkpoint.write(tmp_path / "second.npz", arrays, second)
    assert checkpoint.read_position(tmp_path / "second.npz") == second
    plain = {key: value for key, value in codec.to_plain(position).items() if key != "first_phase"}
    with (tmp_path / "third.npz").open("wb") as stream:  # as the release before wrote it
        text = json.dumps({**plain, "schema_version": 3})
        np.savez(stream, **{"position.json": np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]
    assert checkpoint.read_position(tmp_path / "third.npz") == position

    older = {"epoch": 1, "step": 9, "best_epoch": 0, "best_accuracy": -1.0, "best_loss": float("inf"), "dataset": "1"}
    text = json.dumps({**older, "values": {"loss": 0.5, "accuracy": 0.75}, "schema_version": 1})
    with (tmp_path / "old.npz").open("wb") as stream:
        np.savez(stream, **{"position.json": np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]
    assert checkpoint.read(tmp_path / "old.npz")[1] == checkpoint.Position(1, 9, dataset="1", values=Metrics(0.5, 0.75))
    with (tmp_path / "new.npz").open("wb") as stream:
        np.savez(stream, **{"position.json": np.frombuffer(b'{"schema_version": 99}', np.uint8)})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="version 99"):
        checkpoint.read(tmp_path / "new.npz")


def test_a_checkpoint_reads_the_arrays_that_it_leaves_out_and_says_when_they_are_lost(tmp_path: Path) -> None:
    kernel, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((), np.float32)
    frozen = checkpoint.write_frozen(tmp_path, {"00000:kernel": kernel})
    assert checkpoint.write_frozen(tmp_path, {"00000:kernel": kernel + 1}) != frozen
    written = (tmp_path / frozen).stat().st_mtime_ns
    assert checkpoint.write_frozen(tmp_path, {"00000:kernel": kernel}) == frozen
    assert (tmp_path / frozen).stat().st_mtime_ns == written
    checkpoint.write(tmp_path / "last.npz", {"00001:bias": bias}, checkpoint.Position(step=7), frozen=frozen)
    with (tmp_path / "last.npz").open("rb") as stream:
        assert checkpoint.frozen_in(stream) == frozen
    arrays, position = checkpoint.read(tmp_path / "last.npz")
    assert arrays.keys() == {"00000:kernel", "00001:bias"} and position.step == 7
    np.testing.assert_array_equal(arrays["00000:kernel"], kernel)

    content = codec.to_plain(position)  # as the release before wrote it, with all arrays
    with (tmp_path / "fourth.npz").open("wb") as stream:
        text = json.dumps({**content, "schema_version": 4})
        np.savez(stream, bias=bias, **{"position.json": np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]
    with (tmp_path / "fourth.npz").open("rb") as stream:
        assert checkpoint.frozen_in(stream) == ""
    arrays, stood = checkpoint.read(tmp_path / "fourth.npz")
    assert stood == position and arrays.keys() == {"bias"}

    (tmp_path / frozen).write_bytes((tmp_path / frozen).read_bytes()[:-9])
    with pytest.raises(checkpoint.DamagedCheckpoint, match=rf"last\.npz\. Received: .*{frozen}, which it needs"):
        checkpoint.read(tmp_path / "last.npz")
    (tmp_path / frozen).unlink()
    with pytest.raises(checkpoint.DamagedCheckpoint, match="No such file"):
        checkpoint.read(tmp_path / "last.npz")
    assert checkpoint.read_position(tmp_path / "last.npz") == position


def test_predictions_of_a_rank_are_read_only_for_their_data_set(tmp_path: Path) -> None:
    made = rank_predictions.RankPredictions(
        "val",
        0,
        2,
        "1",
        np.array([[0, 0, 2]]),
        np.array([[1, 0], [0, 1]]),
        np.array([[0.9, 0.1], [0.8, 0.2]], np.float32),
    )
    rank_predictions.write(tmp_path, made)
    read = rank_predictions.read(tmp_path, "val", 0, 2, "1")
    for name in ("ranges", "classes", "probabilities"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    with pytest.raises(RunError, match="data set 2"):
        rank_predictions.read(tmp_path, "val", 0, 2, "2")
    with pytest.raises(RunError, match="rank 1"):
        rank_predictions.read(tmp_path, "val", 1, 2, "1")


def test_a_summary_is_the_same_again_and_leaves_out_what_it_does_not_know(tmp_path: Path) -> None:
    made = summary.Summary("train", {"total": 3.5}, {"train": {"seed": 1}}, model="cnn", attempts=2, train=TRAINED)
    made = dataclasses.replace(made, confidence=Confidence(1.5, 5.25, 0.95, RejectBy.ENERGY))
    summary.write(tmp_path, made)
    assert summary.read(tmp_path, "") == made
    assert "verified" not in json.loads((tmp_path / "summary.json").read_text())


def test_a_threshold_of_a_summary_of_version_4_is_one_of_confidence(tmp_path: Path) -> None:
    confidence = {"temperature": 1.5, "threshold": 0.4, "coverage": 0.95}
    older = {"schema_version": 4, "job": "train", "seconds": {}, "config": {}, "confidence": confidence}
    (tmp_path / "summary.json").write_text(json.dumps(older))
    assert summary.read(tmp_path, "").confidence == Confidence(1.5, 0.4, 0.95, RejectBy.CONFIDENCE)


def test_a_summary_of_version_3_is_read(tmp_path: Path) -> None:
    failed = {"number": 1, "cause": "died", "message": "killed", "seconds": 2.5}
    older = {"schema_version": 3, "job": "train", "seconds": {}, "config": {}, "failed_attempts": [failed]}
    (tmp_path / "summary.json").write_text(json.dumps(older))
    assert summary.read(tmp_path, "").failed_attempts == [summary.FailedAttempt(1, "died", "killed", 2.5)]


def test_a_summary_of_the_first_version_is_read(tmp_path: Path) -> None:
    entry = {"examples": 10, "correct": 9, "accuracy": 0.9, "accuracy_interval": [0.5, 1.0], "loss": None}
    entry |= {"top5_accuracy": 1.0, "balanced_accuracy": 0.9, "macro_f1": 0.9, "calibration_error": 0.1}
    train = {"epochs": 1, "steps": 9, "best_epoch": 1, "loss": 1.0, "accuracy": 0.5, "images_per_second": 9.0}
    older = {"job": "pipeline", "seconds": {"total": 1.0}, "config": {}, "command": "python", "test": entry}
    older |= {"train": {**train, "learning_rate": 0.1}, "workers": 2, "attempts": 1}
    (tmp_path / "summary.json").write_text(json.dumps(older))
    read = summary.read(tmp_path, "")
    assert read.test is not None and (read.test.top_k, read.test.top_k_accuracy) == (5, 1.0)
    assert read.train is not None and read.train.val_accuracy is None
    (tmp_path / "summary.json").write_text(json.dumps({**older, "schema_version": 6}))
    with pytest.raises(UserError, match="newer"):
        summary.read(tmp_path, "Use it.")
