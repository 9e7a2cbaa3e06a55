"""A rank's records as tf.data: which image comes when is a function of (seed, epoch, step, world size) alone."""

from dataclasses import dataclass

import tensorflow as tf

from distributed_cls.config import TrainConfig
from distributed_cls.training.augment import augment
from distributed_cls.training.sharding import Range

Batch = tuple[tf.Tensor, tf.Tensor]


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
        parts = [
            tf.data.TFRecordDataset(self.files[part.shard]).skip(part.start).take(part.records) for part in self.ranges
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.concatenate(part)
        return whole

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


def _options(threads: int) -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.threading.private_threadpool_size = max(1, threads)
    options.deterministic = True
    return options


def train_batches(
    source: Source, config: TrainConfig, *, rank: int, batch: int, steps: int, first_epoch: int, threads: int
) -> tf.data.Dataset:
    """All training batches of a rank from ``first_epoch`` on: (uint8 [batch, S, S, 3], int64 [batch]).

    Each epoch is ``steps`` batches, so the order of an epoch does not depend on where the run was resumed.
    """
    fits = source.decoded_bytes <= config.cache_megabytes * 2**20
    epoch_of = (
        _from_memory(source, config, rank, batch, threads)
        if fits
        else _from_files(source, config, rank, batch, threads)
    )

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = epoch_of(epoch).take(steps).enumerate()

        def finish(step: tf.Tensor, item: Batch) -> Batch:
            images, labels = item
            return augment(images, config, tf.stack([epoch * steps + step, tf.cast(rank, tf.int64)])), labels

        return batches.map(finish, num_parallel_calls=1, deterministic=True)

    epochs = tf.data.Dataset.range(first_epoch, config.epochs)
    return epochs.flat_map(one_epoch).with_options(_options(threads)).prefetch(4)


def _from_memory(source: Source, config: TrainConfig, rank: int, batch: int, threads: int):  # type: ignore[no-untyped-def]
    """Epochs over images that were decoded once: a fresh permutation each, gathered a batch at a time."""
    images, labels = next(iter(source.decoded(threads).batch(source.records)))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(source.records)
        if config.shuffle_buffer:
            order = tf.random.experimental.stateless_shuffle(order, seed=_seed(config, epoch, rank))
        positions = tf.data.Dataset.from_tensor_slices(order).repeat().batch(batch, drop_remainder=True)
        return positions.map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))

    return one_epoch


def _from_files(source: Source, config: TrainConfig, rank: int, batch: int, threads: int):  # type: ignore[no-untyped-def]
    """Epochs read from the shards again each time, shuffled in a buffer of encoded records."""

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        records = source.serialized()
        if config.shuffle_buffer:
            # Of this function's graph alone. With the process's seed at 0 TensorFlow refuses a seed that is a tensor.
            tf.random.set_seed(1)
            seed = tf.random.stateless_uniform([], _seed(config, epoch, rank), maxval=2**62, dtype=tf.int64)
            buffer = min(config.shuffle_buffer, source.records)
            records = records.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
        decoded = records.repeat().map(source.decode, num_parallel_calls=threads, deterministic=True)
        return decoded.batch(batch, drop_remainder=True)

    return one_epoch


def _seed(config: TrainConfig, epoch: tf.Tensor, rank: int) -> tf.Tensor:
    # A rank's number shares a word with the seed: 2^20 ranks before two streams could meet.
    return tf.stack([tf.constant(config.seed * 2**20 + rank, tf.int64), epoch])


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
