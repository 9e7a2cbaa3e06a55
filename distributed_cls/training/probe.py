"""``python -m distributed_cls.training.probe``: what TensorFlow sees here, and how fast the ranks sum together.

For ``job=doctor``. TF_CONFIG names the ranks; prints one line of JSON (``contracts/node_report.ProbeResult``).
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.contracts import node_report
from distributed_cls.contracts.node_report import ProbeResult
from distributed_cls.models.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

_MIB = 16
_ROUNDS = 11


def main() -> None:
    """Measure, print, and end; the agent reads the line."""
    import_tensorflow()
    import tensorflow as tf

    # TensorFlow's C++ code writes where it likes: the line of the result is the last.
    gpus = len(tf.config.list_physical_devices("GPU"))
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    number = _median_seconds(strategy, 1)
    block = _median_seconds(strategy, _MIB * 2**20 // 4)
    result = ProbeResult(gpus, latency_ms=round(1000 * number, 3), mib_per_second=round(_MIB / block, 1))
    print(node_report.dump_probe(result))
    sys.stdout.flush()


def _median_seconds(strategy: "tf.distribute.Strategy", numbers: int) -> float:
    """Of an all-reduce of ``numbers`` float32, without the first, which connects the ranks."""
    import tensorflow as tf

    def sum_of_ones() -> "tf.Tensor":
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([numbers]))

    call: Callable[[], object] = tf.function(lambda: strategy.run(sum_of_ones))
    call()
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        strategy.experimental_local_results(call())[0].numpy()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
