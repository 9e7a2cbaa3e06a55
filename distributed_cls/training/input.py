"""A rank's records as tf.data: which image comes when is a function of (seed, epoch, step) alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.config import TrainConfig
from distributed_cls.contracts import tfrecord
from distributed_cls.training.augment import augment, one_view
from distributed_cls.training.draws import Draws
from distributed_cls.training.mixing import mix
from distributed_cls.training.sharding import Range, RankLanes, ranges_of

Batch = tuple[tf.Tensor, tf.Tensor]
Places = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # see Source.places
_READ_BYTES = 256 * 1024  # of a shard at once, TFRecordDataset's own default


@dataclass(frozen=True)
class Source:
    """The records of one rank: local shard ``files``, the ``ranges`` to read of them, and how images are stored."""

    files: list[str]
    ranges: list[Range]
    encoding: str
    image_size: int
    channels: int = 3
    # Of the train split, where an epoch does not take each record once: the numbers of the records that it takes before
    # it is shuffled, in rising order (``balance.py``). The lanes are then runs of it.
    order: NDArray[np.int64] | None = None
    features: int | None = None  # D, where a record has the backbone's output for its image: float32 [D]
    views: int = 1  # V, where it has that of several views: float32 [V, D]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: [S, S, C]; of its features: [D], of several views [V, D]."""
        if self.features is None:
            return (self.image_size, self.image_size, self.channels)
        return (self.features,) if self.views == 1 else (self.views, self.features)

    @property
    def dtype(self) -> tf.DType:
        """Of an image, or of its features."""
        return tf.uint8 if self.features is None else tf.float32

    @property
    def records(self) -> int:
        return sum(part.records for part in self.ranges)

    @property
    def decoded_bytes(self) -> int:
        return self.records * self.example_bytes

    @property
    def example_bytes(self) -> int:
        """Of a decoded image, or of its features."""
        return int(math.prod(self.shape) * self.dtype.size)

    def serialized(self) -> tf.data.Dataset:
        """The records in stored order, as scalar strings."""
        return _records(self.places())

    def places(self) -> Places:
        """Where the records are: file names, the byte at which the first one of each begins, and how many follow."""
        files = [self.files[part.shard] for part in self.ranges]
        starts = [tfrecord.record_start(Path(self.files[part.shard]), part.start) for part in self.ranges]
        return (
            tf.constant(files, tf.string),
            tf.constant(starts, tf.int64),
            tf.constant([part.records for part in self.ranges], tf.int64),
        )

    def part(self, start: int, count: int) -> "Source":
        """``count`` of these records from number ``start`` on."""
        found = ranges_of([part.records for part in self.ranges], range(start, start + count))
        ranges = [
            Range(outer.shard, outer.start + inner.start, outer.start + inner.stop)
            for inner in found
            for outer in [self.ranges[inner.shard]]
        ]
        return replace(self, ranges=ranges)

    def decode(self, serialized: tf.Tensor) -> Batch:
        """A record → (uint8 [S, S, C] image or float32 [D] features, int64 label)."""
        record = tf.io.parse_single_example(
            serialized,
            {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)},
        )
        if self.features is not None:
            image = tf.reshape(tf.io.decode_raw(record["image"], tf.float32), self.shape)
        elif self.encoding == "raw":
            image = tf.reshape(tf.io.decode_raw(record["image"], tf.uint8), self.shape)
        elif self.encoding == "png":
            image = tf.ensure_shape(tf.io.decode_png(record["image"], channels=self.channels), self.shape)
        else:
            # The accurate transform is the one that libjpeg uses elsewhere; TensorFlow's default is a faster one.
            jpeg = tf.io.decode_jpeg(record["image"], channels=self.channels, dct_method="INTEGER_ACCURATE")
            image = tf.ensure_shape(jpeg, self.shape)
        return image, record["label"]

    def decoded(self, threads: int) -> tf.data.Dataset:
        return self.serialized().map(self.decode, num_parallel_calls=threads, deterministic=True)


def _records(places: Places) -> tf.data.Dataset:
    """The records at ``places``. To ``skip`` to them would read all those before: half a shard for each lane."""

    def of_file(file: tf.Tensor, start: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        # Inside a function: elsewhere TensorFlow (2.21) loses the offset when it copies the graph of a dataset.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[file], compression_type="", buffer_size=_READ_BYTES, byte_offsets=[start]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(count)

    return tf.data.Dataset.from_tensor_slices(places).flat_map(of_file)


def _options(threads: int) -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.threading.private_threadpool_size = max(1, threads)
    options.deterministic = True
    return options


@tf.autograph.experimental.do_not_convert  # see train_graph.py; it holds for all functions of the datasets made here
def train_batches(
    source: Source, lanes: RankLanes, config: TrainConfig, *, steps: int, first_step: int, threads: int
) -> tf.data.Dataset:
    """All training batches of a rank from ``first_step`` of the run on: uint8 [N, S, S, C] (float32 [N, D]
    where the source has features), int64 [N].

    Where images are mixed, the other images' labels and the shares of the own ones follow (``mixing.Mixed``).

    ``steps``: of an epoch; each gives a batch per replica of the rank. Which images a step has, and how they are
    augmented, depends on the seed, the epoch and the step within it, not on where a run was resumed or on the number
    of ranks.
    """
    fits = source.decoded_bytes <= config.cache_megabytes * 2**20
    epoch_of = (_from_memory if fits else _from_files)(source, lanes, config, steps, threads)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        done = tf.where(epoch == first_step // steps, tf.constant(first_step % steps, tf.int64), 0)

        def finish(step: tf.Tensor, item: Batch) -> tuple[tf.Tensor, ...]:
            images, labels = item
            draws = Draws(config.seed, epoch * steps + done + step, lanes.in_batch, lanes.global_batch)
            images = (
                augment(images, config, draws) if source.features is None else one_view(images, source.views, draws)
            )
            return tuple(mix(images, labels, config, draws, lanes.slice_size)) if config.mixes else (images, labels)

        return epoch_of(epoch, done).enumerate().map(finish, num_parallel_calls=1, deterministic=True)

    batches = tf.data.Dataset.range(first_step // steps, config.epochs).flat_map(one_epoch)
    return _per_replica(batches, lanes.replica_sizes).with_options(_options(threads)).prefetch(4)


def _per_replica(batches: tf.data.Dataset, sizes: list[int]) -> tf.data.Dataset:
    """Each batch of a rank as one batch for each of its replicas."""
    if len(sizes) == 1:
        return batches
    if len(set(sizes)) == 1:  # of one static shape
        return batches.unbatch().batch(sizes[0], drop_remainder=True)
    ends = tf.cumsum(tf.constant(sizes, tf.int64))
    starts = ends - tf.constant(sizes, tf.int64)

    def cut(*batch: tf.Tensor) -> tf.data.Dataset:
        borders = tf.data.Dataset.from_tensor_slices((starts, ends))
        return borders.map(lambda start, end: tuple(part[start:end] for part in batch))

    return batches.flat_map(cut)


# (epoch, steps done in it) → the rest of that epoch's batches.
_Epochs = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]


def _from_memory(source: Source, lanes: RankLanes, config: TrainConfig, steps: int, threads: int) -> _Epochs:
    """Epochs over images that were decoded once and are gathered a batch at a time."""
    images, labels = next(iter(source.decoded(threads).batch(source.records)))
    order = None if source.order is None else tf.constant(source.order)
    runs = [lanes.lane(lane) for lane in lanes.own]
    starts = tf.constant([run.start - lanes.run.start for run in runs], tf.int64)
    stops = tf.constant([run.stop - lanes.run.start for run in runs], tf.int64)

    def one_epoch(epoch: tf.Tensor, done: tf.Tensor) -> tf.data.Dataset:
        chosen = _slices(lambda own: tf.data.Dataset.range(starts[own], stops[own]), lanes, config, epoch)
        chosen = chosen.take(steps).skip(done)
        if order is not None:
            chosen = chosen.map(lambda positions: tf.gather(order, positions))
        return chosen.map(lambda positions: (tf.gather(images, positions), tf.gather(labels, positions)))

    return one_epoch


def _from_files(source: Source, lanes: RankLanes, config: TrainConfig, steps: int, threads: int) -> _Epochs:
    """Epochs read from the shards again each time."""
    parts = [_of_lane(source, run.start - lanes.run.start, len(run)) for run in map(lanes.lane, lanes.own)]
    files, starts, counts = (tf.concat(column, 0) for column in zip(*[part.places() for part, _ in parts], strict=True))
    begins, ends = _borders([len(part.ranges) for part, _ in parts])
    copies = tf.concat([tf.constant(repeated, tf.int64) for _, repeated in parts], 0)
    copies_begin, copies_end = _borders([len(repeated) for _, repeated in parts])

    def of_lane(own: tf.Tensor) -> tf.data.Dataset:
        its = slice(begins[own], ends[own])
        records = _records((files[its], starts[its], counts[its]))
        if source.order is None:
            return records
        repeated = tf.data.Dataset.from_tensor_slices(copies[copies_begin[own] : copies_end[own]])
        pairs = tf.data.Dataset.zip(records, repeated)
        return pairs.flat_map(lambda record, count: tf.data.Dataset.from_tensors(record).repeat(count))

    def one_epoch(epoch: tf.Tensor, done: tf.Tensor) -> tf.data.Dataset:
        records = _slices(of_lane, lanes, config, epoch).take(steps).skip(done).unbatch()
        decoded = records.map(source.decode, num_parallel_calls=threads, deterministic=True)
        return decoded.batch(lanes.batch_size, drop_remainder=True)

    return one_epoch


def _of_lane(source: Source, start: int, count: int) -> tuple[Source, NDArray[np.int64]]:
    """The records of a lane, and how often each comes in an epoch where that is not once."""
    if source.order is None:
        return source.part(start, count), np.zeros(0, np.int64)
    order = source.order[start : start + count]
    first = int(order[0])
    return source.part(first, int(order[-1]) + 1 - first), np.bincount(order - first)


def _borders(lengths: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Where things of these lengths begin and end, one after the other."""
    ends = tf.cumsum(tf.constant(lengths))
    return ends - tf.constant(lengths), ends


def _slices(
    of_lane: Callable[[tf.Tensor], tf.data.Dataset], lanes: RankLanes, config: TrainConfig, epoch: tf.Tensor
) -> tf.data.Dataset:
    """What a rank takes of its lanes at each step, without end: each element [rank batch].

    of_lane: the records of the rank's lane of that number, or what stands for them. Every lane is shuffled in a buffer
    of its own. The order follows from the seed, the epoch, the lane and its length, whatever the elements are: images
    in memory and records in files come in the same one.
    """
    own, buffer = len(lanes.own), -(-config.shuffle_buffer // lanes.lanes)
    sizes = tf.constant([min(buffer, len(lanes.lane(lane))) for lane in lanes.own], tf.int64)
    # Drawn for all lanes, whichever of them this rank has.
    seed = tf.stack([tf.constant(config.seed, tf.int64), epoch])
    seeds = tf.random.stateless_uniform([lanes.lanes], seed, maxval=2**62, dtype=tf.int64)[lanes.own.start :]

    def one_lane(number: tf.Tensor) -> tf.data.Dataset:
        stream = of_lane(number)
        if buffer:
            # Of this function's graph alone. With the process's seed at 0 TensorFlow refuses a seed that is a tensor.
            tf.random.set_seed(1)
            stream = stream.shuffle(sizes[number], seed=seeds[number], reshuffle_each_iteration=False)
        # A lane with less than a slice repeats its images.
        return stream.repeat().batch(lanes.slice_size, drop_remainder=True)

    # In turns, one slice of each: a graph of one lane, where one dataset per lane took seconds to trace.
    turns = tf.data.Dataset.range(own).interleave(one_lane, cycle_length=own, block_length=1)
    return turns.batch(own, drop_remainder=True).map(lambda slices: tf.reshape(slices, [lanes.batch_size]))


@tf.autograph.experimental.do_not_convert
def evaluation_batches(
    source: Source, *, batch: int, steps: int, cache_megabytes: int, threads: int
) -> tf.data.Dataset:
    """A split's batches in stored order, ``steps`` of them on every rank.

    Gives (uint8 [batch, S, S, C] or float32 [batch, D], int64 [batch], float32 weights [batch]); padding has weight 0.
    """
    padding = tf.data.Dataset.from_tensors((tf.zeros(source.shape, source.dtype), tf.zeros([], tf.int64), 0.0)).repeat()
    if source.records:
        real = source.decoded(threads).map(lambda image, label: (image, label, 1.0))
        examples = real.concatenate(padding)
    else:
        examples = padding
    batches = examples.take(steps * batch).batch(batch, drop_remainder=True)
    if steps * batch * source.example_bytes <= cache_megabytes * 2**20:
        batches = batches.cache()
    return batches.with_options(_options(threads)).prefetch(2)
