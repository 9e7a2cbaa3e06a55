"""Balanced sampling: every class as often as the largest, over all ranks together, whatever their number."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.errors import UserError
from distributed_cls.training.balance import balanced_order, balanced_records, stored_labels
from distributed_cls.training.context import epoch_records
from distributed_cls.training.input import train_batches
from distributed_cls.training.sharding import RankLanes, train_steps
from distributed_cls.training.start import open_sources
from tests.shards import Record, records, write_dataset

LABELS = [0] * 20 + [1] * 7 + [2] * 3  # in a random order
BATCH, LANES, EPOCHS = 12, 6, 2
PATHS = {"memory": 64, "files": 0}  # which way of reading → train.cache_megabytes


@pytest.fixture(scope="module")
def every() -> list[Record]:
    """A record's first pixel tells its number."""
    labels = np.random.default_rng(0).permutation(LABELS).tolist()
    made = []
    for number, ((image, _, key), label) in enumerate(zip(records(len(LABELS)), labels, strict=True)):
        image[0, 0] = number
        made.append((image, label, key))
    return made


@pytest.fixture(scope="module")
def dataset(every: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Manifest]:
    folder = tmp_path_factory.mktemp("unequal") / "data"
    return str(folder), write_dataset(folder, {"train": [every[:11], every[11:]], "val": [every], "test": [every]})


@pytest.mark.parametrize("counts", [(20, 7, 3), (1, 1), (5, 0, 100), (4,)])
def test_each_class_is_repeated_evenly_to_the_count_of_the_largest(counts: tuple[int, ...]) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(labels)
    assert (np.diff(order) >= 0).all() and set(order) == set(range(len(labels)))
    assert Counter(labels[order].tolist()) == {label: max(counts) for label, count in enumerate(counts) if count}
    for label in set(labels.tolist()):
        copies = Counter(order[labels[order] == label].tolist()).values()
        assert max(copies) - min(copies) <= 1
    assert balanced_records({str(label): count for label, count in enumerate(counts)}) == len(order)


def test_labels_are_read_in_stored_order(dataset: tuple[str, Manifest], every: list[Record]) -> None:
    folder, manifest = dataset
    files = [str(Path(folder, shard.file)) for shard in manifest.shards["train"]]
    assert stored_labels(files).tolist() == [label for _, label, _ in every]


def _batches(dataset: tuple[str, Manifest], world: int, rank: int, **settings: object) -> list[list[int]]:
    """The numbers of the records in each batch of a rank."""
    train = TrainConfig(epochs=EPOCHS, batch_size=BATCH, lanes=LANES, sampling="balanced", **settings)
    folder, manifest = dataset
    source = open_sources(manifest, folder, Config(train=train), rank, world, lambda done, total: None)["train"]
    total = epoch_records(manifest, train)
    lanes, steps = RankLanes.of([total], train, world, rank), train_steps([total], BATCH)
    batches = train_batches(source, lanes, train, steps=steps, first_step=0, threads=1)
    return [images[:, 0, 0, 0].tolist() for images, _ in batches.as_numpy_iterator()]


@pytest.mark.parametrize("path", PATHS)
def test_an_epoch_has_each_class_alike_and_the_same_batches_for_any_number_of_ranks(
    dataset: tuple[str, Manifest], every: list[Record], path: str
) -> None:
    whole = _batches(dataset, 1, 0, cache_megabytes=PATHS[path])
    steps = 60 // BATCH  # three classes of twenty
    assert len(whole) == EPOCHS * steps
    for epoch in range(EPOCHS):
        taken = [number for batch in whole[epoch * steps : (epoch + 1) * steps] for number in batch]
        assert Counter(every[number][1] for number in taken) == {0: 20, 1: 20, 2: 20}
        assert set(taken) == set(range(len(every)))
    assert whole[:steps] != whole[steps:]
    assert whole == _batches(dataset, 1, 0, cache_megabytes=PATHS["memory"])
    for world in (2, 3):
        ranks = [_batches(dataset, world, rank, cache_megabytes=PATHS[path]) for rank in range(world)]
        assert [[number for part in parts for number in part] for parts in zip(*ranks, strict=True)] == whole


def test_classes_are_balanced_in_one_way_at_a_time() -> None:
    with pytest.raises(UserError, match=r"class_weights to be null with sampling=balanced"):
        TrainConfig(class_weights="balanced", sampling="balanced")
