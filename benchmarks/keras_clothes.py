"""The recipe of ``experiment=clothes`` as a plain Keras program: one process, two threads, ``compile`` and ``fit``.

``python -m benchmarks.keras_clothes dataset-folder epochs``; prints JSON. It shares no code with the framework:
network, schedule, mirroring and reading are spelled out here.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH, PEAK, WARMUP, WEIGHT_DECAY = 128, 0.1, 0.25, 5e-3


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The grey images of a split, uint8 [N, 28, 28, 1], and their labels, int64 [N]."""
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_single_example(record, features)
        return tf.ensure_shape(tf.io.decode_png(parsed["image"], channels=1), (28, 28, 1)), parsed["label"]

    files = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    images, labels = next(iter(tf.data.TFRecordDataset(files).map(decode).batch(100_000)))
    return images.numpy(), labels.numpy()


def network() -> keras.Model:
    """Images [N, 28, 28, 1], 0 to 255 → logits [N, 10]."""
    layers: list[keras.Layer] = [keras.layers.Input((28, 28, 1)), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    for filters in (32, 64, 128):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dropout(0.3)]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Smith & Topin 2018 (https://arxiv.org/abs/1708.07120): a wave up to ``PEAK`` and down to nearly nothing."""

    def __init__(self, steps: int) -> None:
        self.steps, self.up = float(steps), float(round(WARMUP * steps))

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising = PEAK + (PEAK / 25 - PEAK) * 0.5 * (1 + tf.cos(math.pi * step / self.up))
        share = tf.minimum(1.0, (step - self.up) / (self.steps - self.up))
        falling = PEAK * 1e-4 + (PEAK - PEAK * 1e-4) * 0.5 * (1 + tf.cos(math.pi * share))
        return tf.where(step < self.up, rising, falling)


class EpochTimer(keras.callbacks.Callback):
    """Seconds of each epoch's training, its validation not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def main() -> None:
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(0)
    images, labels = read(folder, "train")
    pixels, targets = tf.constant(images), tf.constant(labels)
    steps = len(images) // BATCH

    def batch(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        taken = tf.gather(pixels, chosen)
        mirrored = tf.random.uniform([BATCH, 1, 1, 1]) < 0.5
        return tf.where(mirrored, tf.reverse(taken, [2]), taken), tf.gather(targets, chosen)

    order = tf.data.Dataset.range(len(images)).shuffle(len(images)).repeat().batch(BATCH, drop_remainder=True)
    model = network()
    optimizer = keras.optimizers.SGD(OneCycle(steps * epochs), 0.9, nesterov=True, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA makes convolutions on CPUs several times slower, and Keras 3 would choose it.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    timer = EpochTimer()
    model.fit(order.map(batch).prefetch(4), epochs=epochs, steps_per_epoch=steps, callbacks=[timer], verbose=0)
    test_images, test_labels = read(folder, "test")
    accuracy = model.evaluate(test_images, test_labels, batch_size=500, verbose=0)[1]
    rate = steps * BATCH * (epochs - 1) / sum(timer.seconds[1:])  # the first epoch traces the graph
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    print(json.dumps({"images_per_second": rate, "accuracy": accuracy, "parameters": parameters}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
