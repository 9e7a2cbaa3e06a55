"""Memory that TensorFlow frees stays with the process: the kernel need not map it anew at each step."""

import json
import subprocess
import sys

from tests.patience import PATIENCE

_PROGRAM = """
import json
import resource

import tensorflow as tf

from distributed_cls.training.memory import keep_freed_memory

tf.config.threading.set_intra_op_parallelism_threads(1)
x = tf.random.uniform([1000, 1000])  # 4 MB


@tf.function
def steps(x):
    def one(step, total):
        return step + 1, total + tf.reduce_sum(tf.nn.relu(x + total))

    return tf.while_loop(lambda step, total: step < 50, one, (0, 0.0))


def faults():
    steps(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    steps(x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


python = tf.data.Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int32))
next(iter(python))
found = [faults()]
keep_freed_memory()
found.append(faults())
next(iter(python))
found.append(faults())
print(json.dumps(found))
"""


def test_no_page_is_mapped_anew_once_a_dataset_has_called_python() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    _, kept, later = json.loads(ended.stdout.splitlines()[-1])
    # Each of the 50 steps makes a tensor of 1,000 pages: 49,000 faults as TensorFlow 2.21 leaves it on Python 3.11.
    assert max(kept, later) < 15_000, ended.stdout
