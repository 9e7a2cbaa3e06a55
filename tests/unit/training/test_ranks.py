"""Real ranks in processes of their own: what they compute together equals what one process computes alone."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from sklearn.metrics import log_loss, roc_auc_score

from distributed_cls.barrier.ports import held_port
from distributed_cls.config import ClusterConfig, Config, DataConfig, EvaluateConfig, TrainConfig
from distributed_cls.contracts import checkpoint, codec, events
from distributed_cls.contracts.events import EpochEnded, Event, Finished, MistakesFound
from distributed_cls.contracts.rank_task import RankResult, RankTask, Step, dump_task
from distributed_cls.errors import UserError
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from distributed_cls.training import resuming, run_state
from distributed_cls.training.augment import augment
from distributed_cls.training.draws import Draws
from distributed_cls.training.mixing import mix
from distributed_cls.training.temperature import fit_temperature
from tests.patience import PATIENCE
from tests.shards import Record, records, write_dataset

from .rank_program import KEPT_EPOCHS, OPTIMIZERS, STEPS
from .threads import SumOfThreads

E = TypeVar("E", bound=Event)

BATCH = 12
LANES = 4
SEED = 7
_ROOT = Path(__file__).parents[3]
_PROGRAM = """
from distributed_cls.models.tensorflow_import import import_tensorflow
import_tensorflow()  # as a rank does
from tests.unit.training.rank_program import main
main()
"""


@contextlib.contextmanager
def _ranks(work: str, folder: Path, world: int, task: RankTask) -> Iterator[None]:
    """Start ``world`` ranks; at the end of the block, wait until all are done."""
    folder.mkdir()
    (folder / "task.json").write_text(dump_task(task), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        workers = [f"127.0.0.1:{stack.enter_context(held_port())}" for _ in range(world)]
        processes = []
        for rank in range(world):
            place = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(place), "OMP_NUM_THREADS": "1"}
            log = stack.enter_context((folder / f"rank-{rank}.log").open("w"))
            command = [sys.executable, "-c", _PROGRAM, work, str(folder)]
            processes.append(
                subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
        try:
            yield
            for rank, process in enumerate(processes):
                code = process.wait(PATIENCE)
                assert code == 0, (folder / f"rank-{rank}.log").read_text()[-3000:]
        finally:
            for process in processes:
                process.kill()
                process.wait()


# ── the same weights, however many ranks ────────────────────────────────────────────────────────────────────────────


def _train_config(**settings: Any) -> TrainConfig:
    return TrainConfig(
        **{
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": 0.01,
            "schedule": "constant",
            "optimizer": "sgd",
            "shuffle_buffer": 0,
            "seed": SEED,
            **settings,
        }
    )


@pytest.fixture(scope="module")
def batches() -> list[list[Record]]:
    """The global batches of the equivalence tests: from each of ``LANES`` equal runs of the records the next ones."""
    lanes = np.array_split(np.arange(STEPS * BATCH), LANES)
    size, every = BATCH // LANES, records(STEPS * BATCH)
    return [[every[n] for lane in lanes for n in lane[step * size : (step + 1) * size]] for step in range(STEPS)]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """What ranks hold after the same steps over one data set. Keys: "0/2" is rank 0 of two."""
    folder = tmp_path_factory.mktemp("steps")
    every = records(STEPS * BATCH)
    shards = [every[:100], every[100:]]
    write_dataset(folder / "data", {"train": shards, "val": shards, "test": shards})
    train = _train_config(lanes=LANES)
    with contextlib.ExitStack() as stack:
        for world in (1, 2, 3):
            config = Config(data=DataConfig(image_size=8), train=train, cluster=ClusterConfig(workers=world))
            task = RankTask(config, str(folder / "data"), "1", str(folder), (Step.TRAIN,))
            stack.enter_context(_ranks("steps", folder / f"world-{world}", world, task))
    found = {}
    for name in ("0/1", "0/2", "1/2", "0/3"):
        rank, world = name.split("/")
        with np.load(folder / f"world-{world}" / f"rank-{rank}.npz") as stored:
            found[name] = {key: stored[key] for key in stored.files}
    return found


def test_ranks_take_their_batches_without_asking_each_other(left: dict[str, dict[str, np.ndarray]]) -> None:
    """Or evaluation, whose calls each rank cuts by its own clock, would stand still once two are cut differently."""
    assert _part(left["0/2"], "collectives_of_input") == _part(left["1/2"], "collectives_of_input") == [0]


def _part(held: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [held[key] for key in sorted(held) if key.startswith(f"{name}.")]


def _distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest relative distance of two variables of the same place."""
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)


def _mixed(images: np.ndarray, labels: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """A whole global batch after augmentation and mixing, and its mixed labels."""
    config = _train_config(lanes=LANES, **OPTIMIZERS["mixed"])
    draws = Draws(SEED, tf.constant(step, tf.int64), range(BATCH), BATCH)
    changed = augment(tf.constant(images), config, draws)
    mixed = [value.numpy() for value in mix(changed, tf.constant(labels), config, draws, BATCH // LANES)]
    shares = mixed[3][:, None]
    return mixed[0], shares * np.eye(3)[mixed[1]] + (1 - shares) * np.eye(3)[mixed[2]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_two_and_three_ranks_and_plain_keras_reach_the_same_weights(
    left: dict[str, dict[str, np.ndarray]], batches: list[list[Record]], name: str
) -> None:
    keras.utils.set_random_seed(SEED)
    model = build(DenseConfig(units=[16], dropout=0.0), 8, 3)
    first = [np.asarray(variable).copy() for variable in model.variables]
    optimizer = {
        "adam": keras.optimizers.Adam(0.01),
        "clipped": keras.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=0.1),
        "in_parts": keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    }.get(name, keras.optimizers.SGD(0.01, momentum=0.9))
    average = [variable.astype(np.float64) for variable in first]
    model.compile(optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    for step, batch in enumerate(batches, 1):
        images, labels = np.stack([image for image, _, _ in batch]), np.array([label for _, label, _ in batch])
        targets = np.eye(3)[labels]
        if name == "mixed":
            images, targets = _mixed(images, labels, step - 1)
        model.train_on_batch(images.astype(np.float32), targets)
        decay = min(0.6, (1 + step) / (10 + step))
        average = [
            decay * old + (1 - decay) * np.asarray(now) for old, now in zip(average, model.variables, strict=True)
        ]
    plain = average if name == "averaged" else [np.asarray(variable) for variable in model.variables]
    # It did learn something, as far as it was allowed to.
    assert np.linalg.norm(plain[0] - first[0]) > (0.001 if name == "clipped" else 0.05) * np.linalg.norm(first[0])
    for ranks in ("0/1", "0/2", "0/3"):  # four lanes for three ranks: one of them has twice the images of the others
        assert _distance(_part(left[ranks], name), plain) < 1e-5


def test_batch_norm_over_the_global_batch_is_the_same_for_any_number_of_ranks(
    left: dict[str, dict[str, np.ndarray]],
) -> None:
    alone = _part(left["0/1"], "synced")
    for ranks in ("0/2", "0/3"):
        assert _distance(_part(left[ranks], "synced"), alone) < 1e-5
    trained, alone = (_part(left[ranks], "trained") for ranks in ("0/2", "0/1"))
    assert _distance(trained, alone) > 1e-3  # what it would be otherwise


def test_ranks_hold_identical_weights(left: dict[str, dict[str, np.ndarray]]) -> None:
    for name in (*OPTIMIZERS, "trained", "statistics_after"):
        for one, other in zip(_part(left["0/2"], name), _part(left["1/2"], name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_averaged_statistics_are_the_mean_of_the_ranks(left: dict[str, dict[str, np.ndarray]]) -> None:
    before = [_part(left[rank], "statistics_before") for rank in ("0/2", "1/2")]
    after = _part(left["0/2"], "statistics_after")
    assert len(after) == 2
    for zero, one, mean in zip(*before, after, strict=True):
        assert not np.array_equal(zero, one)
        np.testing.assert_allclose(mean, (zero + one) / 2, rtol=1e-6)


def test_gradients_that_overflow_on_one_rank_skip_the_step_on_all(left: dict[str, dict[str, np.ndarray]]) -> None:
    for rank, finished in (("0/2", [0, 1]), ("1/2", [0, 1]), ("0/1", [1, 2])):
        assert [int(steps) for steps in _part(left[rank], "overflow")] == finished


def test_frozen_variables_are_left_alone(left: dict[str, dict[str, np.ndarray]]) -> None:
    for rank in (0, 1):
        frozen = _part(left[f"{rank}/2"], "frozen")
        assert len(frozen) == 5  # a kernel, and the four of BatchNorm
        assert all((values == rank).all() for values in frozen)


# ── a whole run, undisturbed and resumed ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs "undisturbed", and "resumed" from its checkpoint within the epoch after ``KEPT_EPOCHS``."""
    folder = tmp_path_factory.mktemp("whole")
    parts = [records(count, seed=seed) for seed, count in enumerate([37, 40, 21, 19])]
    write_dataset(folder / "data", {"train": parts[:2], "val": [parts[2]], "test": [parts[3]]})
    train = _train_config(
        epochs=4,
        optimizer="adam",
        schedule="cosine",
        shuffle_buffer=16,
        flip=True,
        shift=0.1,
        deterministic=True,
        steps_per_call=1,
        checkpoint_steps=2,
        keep_checkpoints=3,
        ema=0.9,
    )
    config = Config(
        data=DataConfig(image_size=8),
        model=CnnConfig(filters=[4], units=8),
        train=train,
        evaluate=EvaluateConfig(coverage=0.8),
        cluster=ClusterConfig(),
    )
    for name in ("undisturbed", "resumed"):
        run_folder = folder / f"{name}-run"
        run_folder.mkdir()
        if name == "resumed":
            shutil.copytree(folder / "undisturbed-run" / "kept", run_folder / "checkpoints")
        steps = (Step.TRAIN, Step.EVALUATE)
        with _ranks("whole", folder / name, 2, RankTask(config, str(folder / "data"), "1", str(run_folder), steps)):
            pass
    return folder


def _events(folder: Path, rank: int, kind: type[E]) -> list[E]:
    lines = (folder / f"rank-{rank}.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(events.loads, lines) if isinstance(event, kind)]


def _numbers(event: EpochEnded) -> tuple[Any, ...]:
    return event.split, event.epoch, event.step, dataclasses.replace(event.values, images_per_second=None)


def _result(folder: Path, rank: int) -> RankResult:
    return _events(folder, rank, Finished)[0].result


def test_a_run_that_resumes_within_an_epoch_equals_an_undisturbed_one_bit_for_bit(runs: Path) -> None:
    _, begun = checkpoint.newest_position(runs / "undisturbed-run" / "kept") or pytest.fail("no checkpoint")
    assert begun.epoch == KEPT_EPOCHS and begun.step % 6 != 0 and len(begun.sums) == 2
    stored = []
    for name in ("undisturbed", "resumed"):
        with np.load(runs / f"{name}-run" / "checkpoints" / "last.npz") as whole:
            stored.append({key: whole[key] for key in whole.files})
    positions = [json.loads(arrays.pop("position.json").tobytes()) for arrays in stored]
    assert [position["values"].pop("images_per_second") > 0 for position in positions] == [True, True]
    assert positions[0] == positions[1]
    assert len(stored[0]) > 30  # weights, statistics, dropout's seeds, two Adam slots each, the averages of all
    assert stored[0].keys() == stored[1].keys()
    for key, value in stored[0].items():
        np.testing.assert_array_equal(value, stored[1][key], err_msg=key)
    undisturbed, resumed = (
        [_numbers(event) for event in _events(runs / name, 0, EpochEnded)] for name in ("undisturbed", "resumed")
    )
    assert [(split, epoch) for split, epoch, *_ in resumed] == [
        (split, epoch) for epoch in range(KEPT_EPOCHS + 1, 5) for split in ("train", "val")
    ]
    assert resumed == undisturbed[-len(resumed) :]


def test_the_best_checkpoint_holds_the_averages_of_its_epoch_in_the_place_of_the_weights(runs: Path) -> None:
    folder = runs / "undisturbed-run" / "checkpoints"
    with np.load(folder / "best.npz") as stored:
        best = {key: stored[key] for key in stored.files if key != "position.json"}
    names = [variable.name for variable in build(CnnConfig(filters=[4], units=8), 8, 3).variables]
    keys = [f"{number:05d}:{name}" for number, name in enumerate(names)]
    averages = {key.split(":")[1]: best[key] for key in sorted(best)[-len([k for k in keys if "seed" not in k]) :]}
    assert "moving_mean" in averages and "kernel" in averages
    for key in keys:
        name = key.split(":")[1]
        if "seed" not in name and names.count(name) == 1:
            np.testing.assert_array_equal(best[key], averages[name])


def test_the_counts_are_those_of_a_plain_model_over_the_whole_split(runs: Path) -> None:
    model = build(CnnConfig(filters=[4], units=8), 8, 3)
    run_state.load(runs / "undisturbed-run" / "checkpoints" / "best.npz", model.variables)
    results = [_result(runs / "undisturbed", rank) for rank in (0, 1)]
    assert codec.to_plain(results[0].counts) == codec.to_plain(results[1].counts)
    trained = results[0].train
    assert trained is not None and trained.best_epoch <= trained.epochs == 4 and trained.steps == 4 * 6
    assert trained.val_accuracy == results[0].counts["val"].counts.accuracy
    for split, part in (("val", records(21, seed=2)), ("test", records(19, seed=3))):
        images, labels = np.stack([image for image, _, _ in part]), np.array([label for _, label, _ in part])
        logits = model(images.astype(np.float32), training=False)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        counted, more = results[0].counts[split].counts, results[0].counts[split].probabilities
        confidence = results[0].confidence
        assert confidence is not None and confidence.temperature != 1
        scaled = keras.ops.softmax(logits / confidence.temperature)
        assert counted.examples == len(part)
        assert counted.correct == int((np.argmax(logits, 1) == labels).sum())
        assert more.unscaled_loss_sum == pytest.approx(float(np.sum(losses)), rel=1e-4)
        assert counted.loss_sum == pytest.approx(log_loss(labels, scaled, normalize=False), rel=1e-4)
        energies = logsumexp(np.asarray(logits, np.float64) / confidence.temperature, axis=1)
        if split == "val":  # 17 of 21 are the least that is 80 %
            assert confidence.threshold == pytest.approx(np.sort(energies)[[-17, -18]].mean(), abs=1e-4)
        assert confidence.threshold is not None
        accepted = energies >= confidence.threshold
        right = accepted & (np.argmax(logits, 1) == labels)
        assert (more.accepted, more.accepted_correct) == (accepted.sum(), right.sum())
        if split == "val":
            alone = fit_temperature(np.asarray(logits), labels)
            assert confidence.temperature == pytest.approx(alone, rel=1e-3)
        assert np.sum(counted.confusion, axis=1).tolist() == np.bincount(labels, minlength=3).tolist()
        of_each = np.bincount(labels)
        areas = np.array(more.ordered_pairs) / (of_each * (len(part) - of_each))
        expected = roc_auc_score(labels, scaled, average=None, multi_class="ovr")
        assert areas == pytest.approx(expected, abs=1e-3)  # that a pair is equal depends on the last digit


def test_the_most_confident_mistakes_of_the_ranks_are_the_images_that_were_misread(runs: Path) -> None:
    counted = _result(runs / "undisturbed", 0).counts["test"].counts
    items = [
        item
        for rank in (0, 1)
        for event in _events(runs / "undisturbed", rank, MistakesFound)
        if event.split == "test"
        for item in event.items
    ]
    labels = {key.hex(): label for _, label, key in records(19, seed=3)}
    assert len(items) == len({item.key for item in items}) == counted.examples - counted.correct
    assert all(item.true == labels[item.key] != item.predicted for item in items)


def _resuming(rank: int, total: "SumOfThreads", checkpoints: Path, fingerprint: str, began_here: bool = False) -> Any:
    """As much of a rank as resuming looks at."""
    replicated = SimpleNamespace(
        variables=[], gather=total.gather, set_statistics=lambda values: None, vary_dropout=lambda rank: None
    )
    return SimpleNamespace(
        settings=checkpoint.settings_of(Config()),
        first_phase=None,
        began_here=began_here,
        latest=None,
        is_chief=False,
        checkpoints=checkpoints,
        replicated=replicated,
        manifest=SimpleNamespace(fingerprint=fingerprint),
        rank=rank,
        world_size=total.world_size,
    )


def test_a_checkpoint_of_another_data_set_is_refused(runs: Path) -> None:
    with pytest.raises(UserError, match=r"data set another. Received: [0-9a-f]{8}\. Choose an empty run folder"):
        resuming.resume(_resuming(0, SumOfThreads(1), runs / "undisturbed-run" / "checkpoints", "another"))


def test_a_run_whose_checkpoints_are_all_damaged_begins_again_only_under_the_command_that_began_it(
    tmp_path: Path,
) -> None:
    for name in ("last.npz", "last-1.npz"):
        (tmp_path / name).write_bytes(b"damaged")
    assert resuming.resume(_resuming(0, SumOfThreads(1), tmp_path, "1", began_here=True)).step == 0
    with pytest.raises(UserError, match=r"last-1\.npz.*Remove the file to start over"):
        resuming.resume(_resuming(0, SumOfThreads(1), tmp_path, "1"))


def test_ranks_that_see_different_checkpoints_refuse_to_go_on(runs: Path, tmp_path: Path) -> None:
    """A shared folder may show one rank the newest file, another an older one, and a third none."""
    whole = runs / "undisturbed-run"
    fingerprint = checkpoint.read(whole / "checkpoints" / "last.npz")[1].dataset
    seen = [whole / "checkpoints", whole / "kept", tmp_path]
    kept = checkpoint.read(whole / "kept" / "last.npz")[1].step
    total, said = SumOfThreads(3), [""] * 3

    def resume(rank: int) -> None:
        try:
            resuming.resume(_resuming(rank, total, seen[rank], fingerprint))
        except UserError as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=resume, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    expected = f"Received: step 24 on rank 0, step {kept} on rank 1, step 0 on rank 2, from"
    assert all(expected in text for text in said), said
