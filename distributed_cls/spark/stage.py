"""One stage of Spark tasks, which a signal ends at once."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distributed_cls.spark.interruptible import in_background

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    spark: "SparkSession", name: str, task: Callable[[Iterable[Any]], Iterable[Any]], items: list[Any]
) -> list[Any]:
    """Run ``task`` over ``items``, one Spark task each, and give what they yield."""
    context = spark.sparkContext

    def collect() -> list[Any]:
        context.setJobDescription(name)  # of this thread only
        return context.parallelize(items, len(items)).mapPartitions(task).collect()

    return in_background(collect, on_stop=context.cancelAllJobs)
