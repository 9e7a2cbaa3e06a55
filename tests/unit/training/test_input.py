"""Which image comes when: read from real shards, by TensorFlow's own reader."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.input import Source, evaluation_batches, train_batches
from distributed_cls.training.sharding import rank_ranges
from tests.shards import Record, encode, records, write_shard

COUNTS = [23, 17, 11]  # records of each shard; a prime world divides none of them
BATCH = 4
PATHS = {"memory": 64, "files": 0}  # which way of reading → train.cache_megabytes


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Record]]:
    """Files of ``COUNTS`` records, and all the records in stored order; a record's first pixel tells its number."""
    folder = tmp_path_factory.mktemp("shards")
    every = records(sum(COUNTS))
    for image, _, key in every:
        image[0, 0] = key[-1]
    files, first = [], 0
    for number, count in enumerate(COUNTS):
        write_shard(folder, f"{number}.tfrecord", every[first : first + count])
        files.append(str(folder / f"{number}.tfrecord"))
        first += count
    return files, every


def _source(shards: tuple[list[str], list[Record]], world: int, rank: int) -> Source:
    return Source(shards[0], rank_ranges(COUNTS, world, rank), "png", 8)


def _numbers(batches: tf.data.Dataset) -> list[list[int]]:
    """Which records each batch holds."""
    return [images[:, 0, 0, 0].tolist() for images, *_ in batches.as_numpy_iterator()]


def _train(source: Source, rank: int = 0, first_epoch: int = 0, **settings: object) -> tf.data.Dataset:
    config = TrainConfig(**{"epochs": 3, **settings})
    steps = source.records // BATCH
    return train_batches(source, config, rank=rank, batch=BATCH, steps=steps, first_epoch=first_epoch, threads=1)


def test_ranks_read_every_record_of_the_files_once(shards: tuple[list[str], list[Record]]) -> None:
    for world in (1, 2, 3, 5):
        read = [record for rank in range(world) for record in _source(shards, world, rank).serialized()]
        keys = [
            tf.train.Example.FromString(record.numpy()).features.feature["key"].bytes_list.value[0] for record in read
        ]
        assert sorted(keys) == [key for _, _, key in shards[1]]


@pytest.mark.parametrize("path", PATHS)
def test_each_epoch_shows_a_rank_its_images_once_in_an_order_of_its_own(
    shards: tuple[list[str], list[Record]], path: str
) -> None:
    orders = []
    for rank in range(2):
        source = _source(shards, 2, rank)
        own = {key[-1] for record in source.serialized() for key in [_key(record)]}
        batches = _numbers(_train(source, rank, cache_megabytes=PATHS[path]))
        steps = source.records // BATCH
        assert len(batches) == 3 * steps
        for epoch in range(3):
            shown = [number for batch in batches[epoch * steps : (epoch + 1) * steps] for number in batch]
            # What does not fill a batch is left out; nothing comes twice.
            assert len(set(shown)) == len(shown) == steps * BATCH
            assert set(shown) <= own
            orders.append(tuple(shown))
    assert len(set(orders)) == 6


def _key(record: tf.Tensor) -> bytes:
    return bytes(tf.train.Example.FromString(record.numpy()).features.feature["key"].bytes_list.value[0])


@pytest.mark.parametrize("path", PATHS)
def test_the_order_depends_on_seed_epoch_and_rank_alone(shards: tuple[list[str], list[Record]], path: str) -> None:
    source = _source(shards, 2, 1)
    settings = {"cache_megabytes": PATHS[path], "flip": True, "shift": 0.3, "seed": 5}
    tf.random.set_seed(0)
    undisturbed = [(images, labels) for images, labels in _train(source, 1, **settings).as_numpy_iterator()]
    tf.random.set_seed(3)
    tf.random.uniform([7])  # whatever else the process has drawn
    resumed = list(_train(source, 1, first_epoch=2, **settings).as_numpy_iterator())
    last = undisturbed[-len(resumed) :]
    assert len(resumed) == source.records // BATCH
    for (images, labels), (images_again, labels_again) in zip(last, resumed, strict=True):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    other_seed = _numbers(_train(source, 1, cache_megabytes=PATHS[path], seed=6))
    other_rank = _numbers(_train(source, 0, cache_megabytes=PATHS[path], seed=5))
    assert _numbers(_train(source, 1, cache_megabytes=PATHS[path], seed=5)) not in (other_seed, other_rank)


@pytest.mark.parametrize("path", PATHS)
def test_without_a_shuffle_buffer_the_stored_order_stays(shards: tuple[list[str], list[Record]], path: str) -> None:
    batches = _numbers(_train(_source(shards, 1, 0), shuffle_buffer=0, epochs=1, cache_megabytes=PATHS[path]))
    stored = [key[-1] for _, _, key in shards[1]]
    assert [number for batch in batches for number in batch] == stored[: len(batches) * BATCH]


def test_a_rank_with_less_than_a_batch_repeats_its_images(shards: tuple[list[str], list[Record]]) -> None:
    source = Source(shards[0], rank_ranges(COUNTS, 17, 3), "png", 8)
    assert source.records == 3
    for cache in PATHS.values():
        config = TrainConfig(epochs=1, cache_megabytes=cache)
        [[*shown]] = _numbers(train_batches(source, config, rank=3, batch=8, steps=1, first_epoch=0, threads=1))
        assert set(shown) == {9, 10, 11}  # 51 records, three each
        assert max(Counter(shown).values()) == 3


def test_evaluation_shows_every_record_once_and_pads_with_weight_zero(shards: tuple[list[str], list[Record]]) -> None:
    real = {}
    for rank in range(3):
        source = _source(shards, 3, rank)
        batches = list(
            evaluation_batches(source, batch=5, steps=6, cache_megabytes=64 * (rank % 2), threads=1).as_numpy_iterator()
        )
        assert [images.shape for images, _, _ in batches] == [(5, 8, 8, 3)] * 6
        images, labels, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
        assert weights.tolist() == [1.0] * source.records + [0.0] * (30 - source.records)
        assert not images[weights == 0].any()
        real |= {
            image[0, 0, 0]: (image, label)
            for image, label in zip(images[weights > 0], labels[weights > 0], strict=True)
        }
    assert len(real) == sum(COUNTS)
    for image, label, key in shards[1]:
        found, found_label = real[key[-1]]
        np.testing.assert_array_equal(found, image)
        assert found_label == label


def test_a_rank_without_records_gives_padding_only(shards: tuple[list[str], list[Record]]) -> None:
    batches = evaluation_batches(Source(shards[0], [], "png", 8), batch=2, steps=3, cache_megabytes=1, threads=1)
    assert [weights.tolist() for _, _, weights in batches.as_numpy_iterator()] == [[0.0, 0.0]] * 3


@pytest.mark.parametrize("encoding", ["png", "raw", "jpeg"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    import cv2

    stored = records(5, seed=3)
    write_shard(tmp_path, "one.tfrecord", stored, encoding)
    source = Source([str(tmp_path / "one.tfrecord")], rank_ranges([5], 1, 0), encoding, 8)
    for (image, label, _), (found, found_label) in zip(stored, source.decoded(1).as_numpy_iterator(), strict=True):
        assert found_label == label
        if encoding == "jpeg":  # what an independent decoder makes of the same bytes
            data = np.frombuffer(encode(image, "jpeg"), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
        np.testing.assert_array_equal(found, image)
