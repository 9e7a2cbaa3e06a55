"""One TensorFlow for this folder's tests, on one thread: others work on this machine too."""

import contextlib

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # another folder's tests have started TensorFlow before
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(2)
