"""A rank's records as tf.data: which image comes when is a function of (seed, epoch, step) alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.contracts import tfrecord
from distributed_cls.training.augment import augment
from distributed_cls.training.sharding import Range, RankLanes, ranges_of

Batch = tuple[tf.Tensor, tf.Tensor]
_READ_BYTES = 256 * 1024  # of a shard at once, TFRecordDataset's own default


@dataclass(frozen=True)
class Source:
    """The records of one rank: local shard ``files``, the ``ranges`` to read of them, and how images are stored."""

    files: list[str]
    ranges: list[Range]
    encoding: str
    image_size: int

    @property
    def records(self) -> int:
        return sum(part.records for part in self.ranges)

    @property
    def decoded_bytes(self) -> int:
        return self.records * self.image_size * self.image_size * 3

    def serialized(self) -> tf.data.Dataset:
        """The records in stored order, as scalar strings."""
        parts = [_records_from(self.files[part.shard], part.start).take(part.records) for part in self.ranges]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.concatenate(part)
        return whole

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
        """A record → (uint8 [S, S, 3] image, int64 label)."""
        record = tf.io.parse_single_example(
            serialized,
            {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)},
        )
        shape = (self.image_size, self.image_size, 3)
        if self.encoding == "raw":
            image = tf.reshape(tf.io.decode_raw(record["image"], tf.uint8), shape)
        elif self.encoding == "png":
            image = tf.ensure_shape(tf.io.decode_png(record["image"], channels=3), shape)
        else:
            # The accurate transform is the one that libjpeg uses elsewhere; TensorFlow's default is a faster one.
            jpeg = tf.io.decode_jpeg(record["image"], channels=3, dct_method="INTEGER_ACCURATE")
            image = tf.ensure_shape(jpeg, shape)
        return image, record["label"]

    def decoded(self, threads: int) -> tf.data.Dataset:
        return self.serialized().map(self.decode, num_parallel_calls=threads, deterministic=True)


def _records_from(file: str, number: int) -> tf.data.Dataset:
    """The records of ``file`` from ``number`` on. ``skip`` would read all those before: half a shard for each lane."""

    def from_byte(offset: tf.Tensor) -> tf.data.Dataset:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[file], compression_type="", buffer_size=_READ_BYTES, byte_offsets=[offset]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))

    # Inside a function: elsewhere TensorFlow loses the offset when it copies the graph of the dataset (seen with 2.21).
    start = tfrecord.record_start(Path(file), number)
    return tf.data.Dataset.from_tensors(tf.constant(start, tf.int64)).flat_map(from_byte)


def _options(threads: int) -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.threading.private_threadpool_size = max(1, threads)
    options.deterministic = True
    return options


def train_batches(
    source: Source, lanes: RankLanes, config: TrainConfig, *, steps: int, first_step: int, threads: int
) -> tf.data.Dataset:
    """All training batches of a rank from ``first_step`` of the run on: uint8 [N, S, S, 3], int64 [N].

    ``steps``: of an epoch; each gives a batch per replica of the rank. Which images a step has, and how they are
    augmented, depends on the seed, the epoch and the step within it, not on where a run was resumed or on the number
    of ranks.
    """
    fits = source.decoded_bytes <= config.cache_megabytes * 2**20
    epoch_of = (_from_memory if fits else _from_files)(source, lanes, config, steps, threads)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        done = tf.where(epoch == first_step // steps, tf.constant(first_step % steps, tf.int64), 0)

        def finish(step: tf.Tensor, item: Batch) -> Batch:
            images, labels = item
            return augment(images, config, epoch * steps + done + step, lanes.in_batch, lanes.global_batch), labels

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

    def cut(images: tf.Tensor, labels: tf.Tensor) -> tf.data.Dataset:
        borders = tf.data.Dataset.from_tensor_slices((starts, ends))
        return borders.map(lambda start, end: (images[start:end], labels[start:end]))

    return batches.flat_map(cut)


# (epoch, steps done in it) → the rest of that epoch's batches.
_Epochs = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]


def _from_memory(source: Source, lanes: RankLanes, config: TrainConfig, steps: int, threads: int) -> _Epochs:
    """Epochs over images that were decoded once and are gathered a batch at a time."""
    images, labels = next(iter(source.decoded(threads).batch(source.records)))
    own = [range(run.start - lanes.run.start, run.stop - lanes.run.start) for run in map(lanes.lane, lanes.own)]

    def one_epoch(epoch: tf.Tensor, done: tf.Tensor) -> tf.data.Dataset:
        streams = [tf.data.Dataset.range(run.start, run.stop) for run in own]
        chosen = _slices(streams, lanes, config, epoch).take(steps).skip(done)
        return chosen.map(lambda positions: (tf.gather(images, positions), tf.gather(labels, positions)))

    return one_epoch


def _from_files(source: Source, lanes: RankLanes, config: TrainConfig, steps: int, threads: int) -> _Epochs:
    """Epochs read from the shards again each time."""
    own = [source.part(run.start - lanes.run.start, len(run)) for run in map(lanes.lane, lanes.own)]

    def one_epoch(epoch: tf.Tensor, done: tf.Tensor) -> tf.data.Dataset:
        streams = [part.serialized() for part in own]
        records = _slices(streams, lanes, config, epoch).take(steps).skip(done).unbatch()
        decoded = records.map(source.decode, num_parallel_calls=threads, deterministic=True)
        return decoded.batch(lanes.batch_size, drop_remainder=True)

    return one_epoch


def _slices(streams: list[tf.data.Dataset], lanes: RankLanes, config: TrainConfig, epoch: tf.Tensor) -> tf.data.Dataset:
    """What a rank takes of its lanes' ``streams`` at each step, without end: each element [rank batch].

    Every lane is shuffled in a buffer of its own. The order follows from the seed, the epoch, the lane and its length,
    whatever the elements are: images in memory and records in files come in the same one.
    """
    buffer = -(-config.shuffle_buffer // lanes.lanes)
    ordered = []
    for lane, stream in zip(lanes.own, streams, strict=True):
        if buffer:
            # Of this function's graph alone. With the process's seed at 0 TensorFlow refuses a seed that is a tensor.
            tf.random.set_seed(1)
            seed = tf.random.stateless_uniform([], _seed(config, epoch, lane), maxval=2**62, dtype=tf.int64)
            stream = stream.shuffle(min(buffer, len(lanes.lane(lane))), seed=seed, reshuffle_each_iteration=False)
        # A lane with less than a slice repeats its images.
        ordered.append(stream.repeat().batch(lanes.slice_size, drop_remainder=True))
    return tf.data.Dataset.zip(tuple(ordered)).map(lambda *slices: tf.concat(slices, 0))


def _seed(config: TrainConfig, epoch: tf.Tensor, lane: int) -> tf.Tensor:
    # A lane's number shares a word with the seed: there are fewer than 2^20 lanes.
    return tf.stack([tf.constant(config.seed * 2**20 + lane, tf.int64), epoch])


def evaluation_batches(
    source: Source, *, batch: int, steps: int, cache_megabytes: int, threads: int
) -> tf.data.Dataset:
    """A split's batches in stored order, ``steps`` of them on every rank.

    Gives (uint8 [batch, S, S, 3], int64 [batch], float32 weights [batch]); padding has weight 0.
    """
    shape = (source.image_size, source.image_size, 3)
    padding = tf.data.Dataset.from_tensors((tf.zeros(shape, tf.uint8), tf.zeros([], tf.int64), 0.0)).repeat()
    if source.records:
        real = source.decoded(threads).map(lambda image, label: (image, label, 1.0))
        examples = real.concatenate(padding)
    else:
        examples = padding
    batches = examples.take(steps * batch).batch(batch, drop_remainder=True)
    if steps * batch * source.image_size**2 * 3 <= cache_megabytes * 2**20:
        batches = batches.cache()
    return batches.with_options(_options(threads)).prefetch(2)
