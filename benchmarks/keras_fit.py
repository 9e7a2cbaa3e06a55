"""The usual Keras program: ``compile`` and ``fit``. Two peers share it, with Keras 3 and with legacy tf_keras."""

import contextlib
from types import ModuleType

import numpy as np
import tensorflow as tf

from benchmarks.keras_cnn import cnn
from benchmarks.peer_task import EpochTimer, PeerResult, PeerTask


def use_threads(threads: int) -> None:
    """Compute with ``threads`` threads. Call before any other use of TensorFlow."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))


def batches(images: np.ndarray, labels: np.ndarray, batch: int) -> tf.data.Dataset:
    """Endless shuffled batches out of memory: uint8 [batch, S, S, 3], int64 [batch]."""
    pixels, targets = tf.constant(images), tf.constant(labels)
    order = tf.data.Dataset.range(len(images)).shuffle(len(images)).repeat().batch(batch)
    return order.map(lambda chosen: (tf.gather(pixels, chosen), tf.gather(targets, chosen))).prefetch(4)


def fit(api: ModuleType, task: PeerTask, rank: int = 0, strategy: tf.distribute.Strategy | None = None) -> PeerResult:
    """Train with ``fit`` of ``api`` (keras or tf_keras), on the replicas of ``strategy`` when one is given."""
    world_size = strategy.num_replicas_in_sync if strategy else 1
    images, labels = task.arrays(rank, world_size)
    batch = task.replica_batch(world_size)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = cnn(api, images.shape[1], task.classes)
        model.compile(
            optimizer=api.optimizers.Adam(task.learning_rate),
            loss=api.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            # XLA makes convolutions on CPUs several times slower, and Keras 3 would choose it.
            jit_compile=False,
        )
    data = batches(images, labels, batch)
    if strategy:
        data = strategy.distribute_datasets_from_function(lambda _: batches(images, labels, batch))
    timer = EpochTimer()
    history = model.fit(
        data,
        epochs=task.epochs,
        steps_per_epoch=task.steps,
        callbacks=[api.callbacks.LambdaCallback(on_epoch_begin=timer.start, on_epoch_end=timer.stop)],
        verbose=0,
    )
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return PeerResult.of_epochs(task, timer.seconds, float(history.history["loss"][-1]), parameters)
