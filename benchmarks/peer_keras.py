"""Peer: plain Keras 3 ``fit`` in one process with two threads, without Spark."""

from benchmarks.peer_task import PeerResult, PeerTask


def train(task: PeerTask) -> PeerResult:
    """Train in this process."""
    import keras

    from benchmarks import keras_fit

    keras_fit.use_threads(2)
    return keras_fit.fit(keras, task)
