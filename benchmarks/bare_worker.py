"""The other side of the training benchmark: the same loop, written by hand for two processes, without Spark.

``python -m benchmarks.bare_worker dataset-folder epochs``, once per rank, with TF_CONFIG set. Rank 0 prints JSON.
It shares no code with the framework: reading, loop and optimizer are spelled out here, the model in ``keras_cnn``.
"""

import json
import os
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.keras_cnn import cnn

GLOBAL_BATCH = 128
STEPS_PER_CALL = 50


def read(folder: Path, split: str, rank: int = 0, world: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    """A rank's images of a split, uint8 [N, S, S, C], and their labels, int64 [N]."""
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    size, channels = content["image_size"], content["channels"]
    files = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_single_example(record, features)
        image = tf.io.decode_png(parsed["image"], channels=channels)
        return tf.ensure_shape(image, (size, size, channels)), parsed["label"]

    images, labels = next(iter(tf.data.TFRecordDataset(files).shard(world, rank).map(decode).batch(100_000)))
    return images, labels


def main() -> None:
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    cluster = json.loads(os.environ["TF_CONFIG"])
    rank, world = cluster["task"]["index"], len(cluster["cluster"]["worker"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    size, classes = manifest["image_size"], len(manifest["classes"])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(0)
    images, labels = read(folder, "train", rank, world)
    batch = GLOBAL_BATCH // world
    steps = sum(shard["records"] for shard in manifest["shards"]["train"]) // world // batch
    with strategy.scope():
        model = cnn(keras, size, classes, manifest["channels"])
        rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * steps)
        optimizer = keras.optimizers.Adam(rate)
        optimizer.build(model.trainable_variables)

    def batches(_: tf.distribute.InputContext) -> tf.data.Dataset:
        order = tf.data.Dataset.range(images.shape[0]).shuffle(images.shape[0], seed=1).repeat().batch(batch)
        return order.map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen))).prefetch(4)

    def step(pixels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(tf.cast(pixels, tf.float32), training=True)
            losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
            loss = tf.reduce_sum(losses) / GLOBAL_BATCH
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    @tf.function
    def run(iterator: tf.distribute.DistributedIterator, number: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for _ in tf.range(number):
            total += strategy.run(step, next(iterator))
        return total

    iterator = iter(strategy.distribute_datasets_from_function(batches))
    run(iterator, tf.constant(1)).numpy()
    began, done = time.perf_counter(), 0
    while done < epochs * steps:
        number = min(STEPS_PER_CALL, epochs * steps - done)
        run(iterator, tf.constant(number)).numpy()
        done += number
    rate_measured = done * GLOBAL_BATCH / (time.perf_counter() - began)
    if rank == 0:
        print(json.dumps({"images_per_second": rate_measured}), flush=True)
    sys.stdin.readline()  # both leave together
    os._exit(0)


if __name__ == "__main__":
    main()
