"""One stage of Spark tasks, which a signal ends at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from distributed_cls.spark.interruptible import run_interruptibly

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext
    from pyspark.sql import SparkSession

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    spark: "SparkSession", name: str, task: Callable[[Iterable[Item]], Iterable[Result]], items: Sequence[Item]
) -> list[Result]:
    """Run ``task`` over ``items``, one Spark task each, and give what they yield, in the order of the items."""
    context = spark.sparkContext

    def collect() -> list[Result]:
        context.setJobDescription(name)  # of this thread only
        return _on_cpus(context, context.parallelize(items, len(items))).mapPartitions(task).collect()

    return run_interruptibly(collect, on_stop=context.cancelAllJobs)


def _on_cpus(context: "SparkContext", rdd: "RDD[Item]") -> "RDD[Item]":
    """Let tasks take one core each and no GPU: a session that gives every task GPUs would run only as many as it has.

    Such a session is never on a local master, which knows neither GPUs nor task profiles.
    """
    if context.getConf().get("spark.task.resource.gpu.amount") is None:
        return rdd
    # Spark Connect has no RDDs and not this module.
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    return rdd.withResources(ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build)
