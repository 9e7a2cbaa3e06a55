"""A rank in the two phases of a training: what each changes, what it leaves alone, where it goes on."""

import dataclasses
import itertools
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.rank_task import RankTask, Step, TrainResult
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from tests.shards import records, write_dataset

from .test_ranks import _ranks, _result

MODEL = CnnConfig(filters=[4, 8], units=8, weights="runs/earlier", fine_tune_from="block_1")
TRAIN = TrainConfig(
    epochs=2, batch_size=12, learning_rate=0.05, optimizer="sgd", fine_tune_epochs=2, fine_tune_rate=0.002
)


@dataclasses.dataclass
class Trained:
    """What three starts of a rank left in one run folder: a phase each, and the second phase once more."""

    results: list[TrainResult]
    positions: list[checkpoint.Position]
    arrays: list[dict[str, np.ndarray]]  # the last state
    best: list[dict[str, np.ndarray]]
    earlier: keras.Model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("phases")
    every = records(60)
    write_dataset(folder / "data", {"train": [every[:36]], "val": [every[36:48]], "test": [every[48:]]})
    keras.utils.set_random_seed(5)
    earlier = build(dataclasses.replace(MODEL, weights=None), 8, 7)
    earlier.save(folder / "start.keras")
    config = Config(data=DataConfig(image_size=8), model=MODEL, train=TRAIN, cluster=ClusterConfig(workers=1))
    first: TrainResult | None = None
    left = Trained([], [], [], [], earlier)
    for number in itertools.count():
        task = RankTask(
            config,
            str(folder / "data"),
            "1",
            str(folder / "run"),
            (Step.TRAIN,),
            start_weights=str(folder / "start.keras"),
            first_phase=first,
        )
        with _ranks("whole", folder / f"start-{number}", 1, task):
            pass
        result = _result(folder / f"start-{number}", 0).train
        assert result is not None
        arrays, position = checkpoint.read(folder / "run" / "checkpoints" / "last.npz")
        left.results.append(result)
        left.positions.append(position)
        left.arrays.append(arrays)
        left.best.append(checkpoint.read(folder / "run" / "checkpoints" / "best.npz")[0])
        if number == 2:
            return left
        first = first or result
    raise AssertionError("unreachable")


def _layers(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The model's arrays of a checkpoint, by layer and weight."""
    model = build(MODEL, 8, 3)
    owner = {id(weight): layer.name for layer in model.layers for weight in layer.weights}
    for index, variable in enumerate(model.variables):
        if id(variable) in owner:
            yield f"{owner[id(variable)]}/{variable.name}", arrays[f"{index:05d}:{variable.name}"]


def test_the_first_phase_trains_the_head_on_the_given_backbone(trained: Trained) -> None:
    for name, value in _layers(trained.arrays[0]):
        layer, _, weight = name.partition("/")
        if layer != "logits":
            given = next(one for one in trained.earlier.get_layer(layer).weights if one.name == weight)
            np.testing.assert_array_equal(value, np.asarray(given), err_msg=name)
    assert trained.results[0].epochs == 2 and trained.positions[0].first_phase is None


def test_the_second_phase_trains_the_top_but_no_normalisation(trained: Trained) -> None:
    before, after = dict(_layers(trained.best[0])), dict(_layers(trained.arrays[1]))
    changed = {name.partition("/")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"block_1_conv", "dense", "logits"}


def test_the_second_phase_has_epochs_rate_and_optimizer_of_its_own(trained: Trained) -> None:
    first, second = trained.results[:2]
    assert (second.epochs, second.steps) == (2, 6)
    assert second.learning_rate <= 0.002 < 0.05
    position = trained.positions[1]
    assert position.first_phase == first and position.epoch == 2
    assert position.settings["train.epochs"] == 2 and position.settings["train.learning_rate"] == 0.05
    iterations = next(value for name, value in trained.arrays[1].items() if name.endswith(":iteration"))
    assert int(iterations) == 6


def test_the_best_model_is_that_of_both_phases(trained: Trained) -> None:
    first, second = trained.results[:2]
    assert first.val_accuracy is not None and second.val_accuracy is not None
    assert second.val_accuracy >= first.val_accuracy
    if second.best_epoch == 0:  # the first phase's is better than all of the second: it stays
        for name, value in _layers(trained.best[1]):
            np.testing.assert_array_equal(value, dict(_layers(trained.best[0]))[name])


def test_a_second_phase_that_is_over_stays_over(trained: Trained) -> None:
    assert dataclasses.replace(trained.results[2], images_per_second=0) == dataclasses.replace(
        trained.results[1], images_per_second=0
    )
    for name, value in trained.arrays[1].items():
        np.testing.assert_array_equal(trained.arrays[2][name], value)
