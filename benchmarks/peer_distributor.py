"""Peer: spark-tensorflow-distributor with legacy tf_keras ``fit``, two barrier tasks on ``local[2]``.

Legacy Keras, because ``fit`` of Keras 3 does not train under MultiWorkerMirroredStrategy (keras#20585).
"""

import json
import os

from benchmarks import measure
from benchmarks.peer_task import PeerResult, PeerTask


def train(task: PeerTask) -> PeerResult:
    """Train in a barrier stage; rank 0's result."""
    with measure.spark(slots=2):
        from spark_tensorflow_distributor import MirroredStrategyRunner

        runner = MirroredStrategyRunner(num_slots=2, use_gpu=False, use_custom_strategy=True)
        result: PeerResult = runner.run(train_rank, task=task)
    return result


def train_rank(task: PeerTask) -> PeerResult:
    """One rank, inside the Python process of its barrier task, with one thread."""
    # Here: the driver needs neither.
    import tensorflow as tf
    import tf_keras

    from benchmarks import keras_fit

    keras_fit.use_threads(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    return keras_fit.fit(tf_keras, task, rank, strategy)
