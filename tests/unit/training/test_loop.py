"""The loop on one process: the schedule by its formula, the steps by NumPy."""

import gc
import math
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_class_weight

from distributed_cls.config import Config, EvaluateConfig, TrainConfig
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.models.building import build
from distributed_cls.models.dense import DenseConfig
from distributed_cls.training.evaluator import Evaluator, exported_model
from distributed_cls.training.loop import batch_arithmetic, train
from distributed_cls.training.losses import class_weights
from distributed_cls.training.optimizer import make_optimizer
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.sharding import RankLanes
from distributed_cls.training.train_graph import TrainGraph
from tests.shards import records

from .one_rank import only_rank


def _rate(config: TrainConfig, total: int, step: int) -> float:
    optimizer = make_optimizer(config, total, [keras.Variable(1.0)])
    optimizer.iterations.assign(step)
    return float(optimizer.learning_rate)


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 55, 99, 100])
def test_cosine_schedule_with_warm_up(step: int) -> None:
    """A straight line to the peak in the first tenth, half a cosine wave to 0 over the rest."""
    config = TrainConfig(learning_rate=0.2, schedule="cosine", warmup_fraction=0.1)
    expected = 0.2 * step / 10 if step < 10 else 0.1 * (1 + math.cos(math.pi * (step - 10) / 90))
    assert _rate(config, 100, step) == pytest.approx(expected, abs=1e-7)


def test_schedules_without_warm_up() -> None:
    assert _rate(TrainConfig(learning_rate=0.2, schedule="cosine", warmup_fraction=0), 100, 0) == pytest.approx(0.2)
    assert _rate(TrainConfig(learning_rate=0.2, schedule="constant"), 100, 73) == pytest.approx(0.2)
    assert _rate(TrainConfig(learning_rate=0.2, schedule="cosine", warmup_fraction=0.5), 1, 0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", keras.optimizers.Adam), ("adamw", keras.optimizers.AdamW), ("sgd", keras.optimizers.SGD)],
)
def test_optimizers(name: str, kind: type[keras.optimizers.Optimizer]) -> None:
    decay = 0.01 if name == "adamw" else 0.0
    config = TrainConfig(optimizer=name, momentum=0.7, weight_decay=decay)
    optimizer = make_optimizer(config, 10, [keras.Variable(1.0)])
    assert type(optimizer) is kind
    settings = optimizer.get_config()
    assert settings.get("momentum", 0.7) == 0.7
    assert settings["weight_decay"] == (0.01 if name == "adamw" else None)


def _graph(
    batch_size: int, weights: np.ndarray | None = None, **settings: object
) -> tuple[ReplicatedModel, TrainGraph]:
    defaults = {"schedule": "constant", "optimizer": "sgd", "momentum": 0.0, "batch_size": batch_size}
    config = TrainConfig(**{**defaults, **settings})  # type: ignore[arg-type]
    model = DenseConfig(units=[], dropout=0.0)
    replicated = ReplicatedModel(tf.distribute.get_strategy(), lambda: build(model, 8, 3), config, 10)
    return replicated, TrainGraph(replicated, config, weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("class_weights", [None, [0.5, 3.0, 1.0]])
@pytest.mark.parametrize("parts", [1, 4])  # of six images: one, two, one, two
def test_a_training_step_is_the_textbooks(smoothing: float, class_weights: list[float] | None, parts: int) -> None:
    """A linear softmax classifier: loss and gradient are known in closed form."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    labels = random.integers(0, 3, 6)
    given = None if class_weights is None else np.array(class_weights, np.float32)
    replicated, graph = _graph(6, given, learning_rate=0.1, label_smoothing=smoothing, accumulate=parts)
    weights, bias = (np.asarray(v, np.float64) for v in replicated.model.trainable_variables)
    batches = iter(replicated.distribute(tf.data.Dataset.from_tensors((images, labels))))
    loss, correct, seconds = graph.train_call(batches, tf.constant(1)).numpy()
    assert 0 < seconds < 60

    x = images.reshape(6, -1) / 127.5 - 1
    logits = x @ weights + bias
    targets = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    assert loss == pytest.approx(-(targets * log_softmax(logits, axis=1)).sum(), rel=1e-5)
    assert correct == (logits.argmax(1) == labels).sum()
    share = np.ones(6) if class_weights is None else np.array(class_weights)[labels]
    error = (np.exp(log_softmax(logits, axis=1)) - targets) * share[:, None] / 6
    after, bias_after = (np.asarray(v) for v in replicated.model.trainable_variables)
    np.testing.assert_allclose(after, weights - 0.1 * x.T @ error, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias_after, bias - 0.1 * error.sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_evaluation_gives_each_example_its_own_row(mirror: bool) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels, weights = np.array([0, 1, 2, 0]), np.array([1, 1, 1, 0], np.float32)
    replicated, _ = _graph(4)
    batches = iter(replicated.distribute(tf.data.Dataset.from_tensor_slices((images, labels, weights)).batch(2)))
    evaluator = Evaluator.__new__(Evaluator)  # without a rank's data
    evaluator._ctx = SimpleNamespace(replicated=replicated)  # type: ignore[assignment]
    evaluator._final = False
    evaluator._model = exported_model(replicated.model, Config(evaluate=EvaluateConfig(mirror=mirror)))
    columns = tf.function(evaluator._evaluate_call)(batches, tf.constant(2))
    assert [column.shape for column in columns] == [(2, 2), (2, 2), (2, 2, 3), (2, 2, 3), (2, 2), (2, 2)]
    logits = replicated.model(images.astype(np.float32)).numpy()
    if mirror:
        logits = (logits + replicated.model(images[:, :, ::-1].astype(np.float32)).numpy()) / 2
    found_labels, found_weights, losses, top = (columns[number].numpy().ravel() for number in (0, 1, 4, 5))
    classes, probabilities = (column.numpy().reshape(4, 3) for column in columns[2:4])
    assert found_labels.tolist() == labels.tolist()
    assert found_weights.tolist() == weights.tolist()
    assert classes.tolist() == np.argsort(-logits, axis=1).tolist()
    expected = -np.sort(-np.exp(log_softmax(logits, axis=1)), axis=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    np.testing.assert_allclose(losses, -log_softmax(logits, axis=1)[range(4), labels], rtol=1e-4, atol=1e-6)
    assert top.all()  # three classes: the label is always among the first five


@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_steps_in_one_call_are_the_steps_one_by_one(jit_compile: bool) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    data = tf.data.Dataset.from_tensor_slices((images, random.integers(0, 3, 12))).batch(4)
    weights = []
    for calls in ([3], [1, 1, 1]):
        keras.utils.set_random_seed(0)
        replicated, graph = _graph(4, optimizer="adam", jit_compile=jit_compile)
        batches = iter(replicated.distribute(data))
        for steps in calls:
            graph.train_call(batches, tf.constant(steps))
        assert int(replicated.optimizer.iterations) == 3
        weights.append([np.asarray(v) for v in replicated.model.variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_iterators_outlive_the_training_that_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their end waits for threads that prefetch, for seconds, while other ranks stand in the next collective."""
    made = []

    def noting(self: ReplicatedModel, batches: Any, iterate: Any = ReplicatedModel.iterate) -> Any:
        iterator = iterate(self, batches)
        made.append(weakref.ref(iterator))
        return iterator

    monkeypatch.setattr(ReplicatedModel, "iterate", noting)
    ctx = only_rank(tmp_path, TrainConfig(batch_size=4, epochs=3, shuffle_buffer=8), steps=3)
    result = train(ctx, Position())
    gc.collect()
    assert (result.epochs, result.steps) == (3, 9)
    assert len(made) == 2, "of the training, and one of all validations: each has threads"
    assert [iterator for iterator in made if iterator() is None] == []


@pytest.mark.parametrize("cache_megabytes", [0, 64])
def test_every_validation_sees_the_same_images_in_the_same_order(cache_megabytes: int, tmp_path: Path) -> None:
    ctx = only_rank(tmp_path, TrainConfig(batch_size=4, cache_megabytes=cache_megabytes), steps=1)
    evaluator, seen = Evaluator(ctx, "val"), []
    for _ in range(3):
        counts = evaluator.run()
        assert counts.examples == 9 and evaluator.predictions is not None
        seen.append((evaluator.predictions.labels.tolist(), evaluator.predictions.losses.tolist()))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == [label for _, label, _ in records(9, seed=1)]


def test_the_arithmetic_of_the_batch_is_said_once_and_right() -> None:
    def context(records: list[int], world_size: int, local_replicas: int) -> Any:
        train = TrainConfig(batch_size=128, epochs=15)
        return SimpleNamespace(
            config=SimpleNamespace(train=train),
            world_size=world_size,
            replicated=SimpleNamespace(local_replicas=local_replicas),
            lanes=RankLanes(sum(records), train.lane_count, 128, world_size, 0, local_replicas),
            records=lambda split: records,
            epoch_records=sum(records),
        )

    assert batch_arithmetic(context([630, 629], 2, 1), 9) == (
        "global batch 128 = 2 ranks × 64 images; 1,259 train images = 9 steps an epoch, 107 images left out of each "
        "epoch, others every time; 15 epochs = 135 steps"
    )
    assert batch_arithmetic(context([64, 64], 1, 4), 1) == (
        "global batch 128 = 1 rank × 128 images (4 GPUs × 32); 128 train images = 1 steps an epoch; "
        "15 epochs = 15 steps"
    )
    # 64 lanes of two images, dealt to three ranks.
    assert batch_arithmetic(context([128], 3, 1), 1).startswith("global batch 128 = 3 ranks × 42 to 44 images; ")
    assert "2 ranks × 64 images (3 GPUs × 20 to 22);" in batch_arithmetic(context([128], 2, 3), 1)


def test_balanced_class_weights_are_scikit_learns() -> None:
    counts = {"bus": 7, "car": 90, "train": 3}
    labels = [number for number, count in enumerate(counts.values()) for _ in range(count)]
    manifest = SimpleNamespace(classes=list(counts), counts={"train": counts})

    def weights(chosen: str | None) -> Any:
        return class_weights(SimpleNamespace(config=Config(train=TrainConfig(class_weights=chosen)), manifest=manifest))

    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights("balanced"), expected, rtol=1e-6)
    assert weights(None) is None


def test_weights_and_their_averages_change_places_and_back() -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), np.array([0, 1, 2, 0])
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    replicated, graph = _graph(4, ema=0.5)
    graph.train_call(iter(replicated.distribute(data)), tf.constant(3))
    model, average = replicated.model.variables, replicated.average
    assert average is not None
    weights, averages = ([np.array(variable) for variable in part] for part in (model, average.averages))
    assert all(not np.array_equal(one, other) for one, other in zip(weights, averages, strict=True))
    with replicated.averaged():
        for variable, expected in zip(model, averages, strict=True):
            np.testing.assert_array_equal(np.asarray(variable), expected)
    for variable, expected in zip([*model, *average.averages], [*weights, *averages], strict=True):
        np.testing.assert_array_equal(np.asarray(variable), expected)
