"""Which image comes when: read from real shards, by TensorFlow's own reader."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.input import Source, evaluation_batches, train_batches
from distributed_cls.training.sharding import RankLanes, ranges_of, rank_run, train_steps
from tests.shards import Record, encode, records, write_shard

COUNTS = [23, 17, 11]  # records of each shard; a prime world divides none of them
BATCH = 6
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


def _source(shards: tuple[list[str], list[Record]], run: range) -> Source:
    return Source(shards[0], ranges_of(COUNTS, run), "png", 8)


def _numbers(batches: tf.data.Dataset) -> list[list[int]]:
    """Which records each batch holds."""
    return [images[:, 0, 0, 0].tolist() for images, *_ in batches.as_numpy_iterator()]


def _train(
    shards: tuple[list[str], list[Record]], world: int = 1, rank: int = 0, first_step: int = 0, **settings: object
) -> tf.data.Dataset:
    """The batches of a rank over three epochs; keywords beyond are those of ``TrainConfig``."""
    config = TrainConfig(**{"epochs": 3, "batch_size": BATCH, "shuffle_buffer": 64, **settings})
    lanes = RankLanes.of(COUNTS, config, world, rank)
    steps = train_steps(COUNTS, config.batch_size)
    return train_batches(_source(shards, lanes.run), lanes, config, steps=steps, first_step=first_step, threads=1)


def _whole(shards: tuple[list[str], list[Record]], world: int, **settings: object) -> list[list[int]]:
    """The global batches, put together from those of ``world`` ranks."""
    ranks = [_numbers(_train(shards, world, rank, **settings)) for rank in range(world)]
    return [[number for part in parts for number in part] for parts in zip(*ranks, strict=True)]


def test_ranks_read_every_record_of_the_files_once(shards: tuple[list[str], list[Record]]) -> None:
    for world in (1, 2, 3, 5):
        read = [
            _key(record)
            for rank in range(world)
            for record in _source(shards, rank_run(COUNTS, world, rank)).serialized()
        ]
        assert read == [key for _, _, key in shards[1]]


def _key(record: tf.Tensor) -> bytes:
    return bytes(tf.train.Example.FromString(record.numpy()).features.feature["key"].bytes_list.value[0])


@pytest.mark.parametrize("path", PATHS)
def test_each_epoch_shows_the_images_once_in_an_order_of_its_own(
    shards: tuple[list[str], list[Record]], path: str
) -> None:
    batches = _whole(shards, 1, cache_megabytes=PATHS[path])
    steps = sum(COUNTS) // BATCH
    assert len(batches) == 3 * steps
    orders = []
    for epoch in range(3):
        shown = [number for batch in batches[epoch * steps : (epoch + 1) * steps] for number in batch]
        # What does not fill a batch is left out; nothing comes twice.
        assert len(set(shown)) == len(shown) == steps * BATCH
        orders.append(tuple(shown))
    assert len(set(orders)) == 3


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_ranks_sees_the_same_global_batches_from_memory_and_from_files(
    shards: tuple[list[str], list[Record]], world: int
) -> None:
    alone = _whole(shards, 1)
    for megabytes in PATHS.values():
        assert _whole(shards, world, cache_megabytes=megabytes) == alone
    assert _whole(shards, world, seed=1) != alone
    # A global batch is a slice of every lane, in their order; each lane is a run of the records.
    lanes = [range(51 * lane // 6, 51 * (lane + 1) // 6) for lane in range(6)]
    for batch in _whole(shards, world, lanes=6, batch_size=12):
        assert [next(n for n, lane in enumerate(lanes) if number in lane) for number in batch] == sorted(
            [*range(6)] * 2
        )


@pytest.mark.parametrize("path", PATHS)
def test_a_run_goes_on_in_mid_epoch_as_if_it_had_not_stopped(shards: tuple[list[str], list[Record]], path: str) -> None:
    settings = {"cache_megabytes": PATHS[path], "flip": True, "shift": 0.3, "seed": 5}
    tf.random.set_seed(0)
    undisturbed = list(_train(shards, 2, 1, **settings).as_numpy_iterator())
    for first in (sum(COUNTS) // BATCH, sum(COUNTS) // BATCH + 3, 0):
        tf.random.set_seed(3)
        tf.random.uniform([7])  # whatever else the process has drawn
        resumed = list(_train(shards, 2, 1, first_step=first, **settings).as_numpy_iterator())
        assert len(resumed) == len(undisturbed) - first
        for (images, labels), (images_again, labels_again) in zip(undisturbed[first:], resumed, strict=True):
            np.testing.assert_array_equal(images, images_again)
            np.testing.assert_array_equal(labels, labels_again)


@pytest.mark.parametrize("path", PATHS)
def test_without_a_shuffle_buffer_the_stored_order_stays(shards: tuple[list[str], list[Record]], path: str) -> None:
    batches = _whole(shards, 1, shuffle_buffer=0, epochs=1, lanes=1, cache_megabytes=PATHS[path])
    stored = [key[-1] for _, _, key in shards[1]]
    assert [number for batch in batches for number in batch] == stored[: len(batches) * BATCH]


def test_with_less_than_a_batch_images_repeat(shards: tuple[list[str], list[Record]]) -> None:
    for megabytes in PATHS.values():
        [[*shown]] = _whole(shards, 2, epochs=1, batch_size=64, lanes=2, cache_megabytes=megabytes)
        counted = Counter(shown)
        assert set(counted) == {key[-1] for _, _, key in shards[1]}
        assert set(counted.values()) == {1, 2}
    # More lanes than records: some share one.
    [[*shown]] = _whole(shards, 2, epochs=1, batch_size=64, lanes=64)
    assert set(shown) == {key[-1] for _, _, key in shards[1]}


@pytest.mark.parametrize("lanes", [6, 4])
def test_a_rank_with_several_replicas_gives_each_its_lanes(shards: tuple[list[str], list[Record]], lanes: int) -> None:
    """Four lanes for three replicas: one of them has two."""
    config = TrainConfig(epochs=1, batch_size=12, lanes=lanes)
    whole = RankLanes(sum(COUNTS), lanes, 12, 1, 0, local_replicas=3)
    source = _source(shards, whole.run)
    steps = train_steps(COUNTS, 12)
    parts = _numbers(train_batches(source, whole, config, steps=steps, first_step=0, threads=1))
    assert [len(part) for part in parts] == whole.replica_sizes * steps
    joined = [[number for part in parts[first : first + 3] for number in part] for first in range(0, len(parts), 3)]
    assert joined == _whole(shards, 1, epochs=1, batch_size=12, lanes=lanes, shuffle_buffer=config.shuffle_buffer)


def test_evaluation_shows_every_record_once_and_pads_with_weight_zero(shards: tuple[list[str], list[Record]]) -> None:
    real = {}
    for rank in range(3):
        source = _source(shards, rank_run(COUNTS, 3, rank))
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
    source = Source([str(tmp_path / "one.tfrecord")], ranges_of([5], range(5)), encoding, 8)
    for (image, label, _), (found, found_label) in zip(stored, source.decoded(1).as_numpy_iterator(), strict=True):
        assert found_label == label
        if encoding == "jpeg":  # what an independent decoder makes of the same bytes
            data = np.frombuffer(encode(image, "jpeg"), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("encoding", ["png", "raw", "jpeg"])
def test_a_grey_split_has_one_channel_in_a_batch_and_a_third_of_the_bytes(tmp_path: Path, encoding: str) -> None:
    stored = [(image[..., :1].copy(), label, key) for image, label, key in records(6, seed=3)]
    write_shard(tmp_path, "one.tfrecord", stored, encoding)
    source = Source([str(tmp_path / "one.tfrecord")], ranges_of([6], range(6)), encoding, 8, channels=1)
    assert source.decoded_bytes == 6 * 8 * 8
    batches = evaluation_batches(source, batch=4, steps=2, cache_megabytes=1, threads=1)
    images = np.concatenate([images for images, _, _ in batches.as_numpy_iterator()])
    assert images.shape == (8, 8, 8, 1) and not images[6:].any()
    expected = np.stack([image for image, _, _ in stored])
    assert np.abs(images[:6].astype(int) - expected).max() <= (40 if encoding == "jpeg" else 0)
    if encoding != "raw":  # and in a data set with colours, three equal ones
        colour = dataclasses.replace(source, channels=3)
        for (found, _), grey in zip(colour.decoded(1).as_numpy_iterator(), images, strict=False):
            np.testing.assert_array_equal(found, np.repeat(grey, 3, axis=2))
