"""The recipe of ``experiment=clothes`` as a plain Keras program: one process, two threads, ``compile`` and ``fit``.

``python -m benchmarks.keras_clothes dataset-folder epochs``; prints JSON. It shares no code with the framework:
schedule and mirroring are spelled out here, network and reading are those of the other benchmarks.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.bare_worker import read
from benchmarks.keras_cnn import cnn
from benchmarks.peer_task import EpochTimer

BATCH, PEAK, WARMUP, WEIGHT_DECAY = 128, 0.1, 0.25, 5e-3


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


def main() -> None:
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(0)
    pixels, targets = read(folder, "train")
    images = int(pixels.shape[0])
    steps = images // BATCH

    def batch(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        taken = tf.gather(pixels, chosen)
        mirrored = tf.random.uniform([BATCH, 1, 1, 1]) < 0.5
        return tf.where(mirrored, tf.reverse(taken, [2]), taken), tf.gather(targets, chosen)

    order = tf.data.Dataset.range(images).shuffle(images).repeat().batch(BATCH, drop_remainder=True)
    model = cnn(keras, 28, 10, channels=1, pool_first=True)
    optimizer = keras.optimizers.SGD(OneCycle(steps * epochs), 0.9, nesterov=True, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA makes convolutions on CPUs several times slower, and Keras 3 would choose it.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    timer = EpochTimer()
    timing = keras.callbacks.LambdaCallback(on_epoch_begin=timer.start, on_epoch_end=timer.stop)
    model.fit(order.map(batch).prefetch(4), epochs=epochs, steps_per_epoch=steps, callbacks=[timing], verbose=0)
    test_images, test_labels = read(folder, "test")
    accuracy = model.evaluate(test_images, test_labels, batch_size=500, verbose=0)[1]
    rate = steps * BATCH * (epochs - 1) / sum(timer.seconds[1:])  # the first epoch traces the graph
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    print(json.dumps({"images_per_second": rate, "accuracy": accuracy, "parameters": parameters}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
