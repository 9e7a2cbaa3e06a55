"""One stage of Spark tasks, which a signal ends at once."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from distributed_cls.spark.interruptible import run_interruptibly
from distributed_cls.spark.master import is_local

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    spark: "SparkSession", name: str, task: Callable[[Iterable[Item]], Iterable[Result]], items: Sequence[Item]
) -> list[Result]:
    """Run ``task`` over ``items``, one Spark task of one core each; what they yield, in the order of the items."""
    context = spark.sparkContext
    group = f"distributed_cls-{uuid.uuid4().hex}"  # other jobs of the session are not ours to cancel

    def collect() -> list[Result]:
        context.setJobGroup(group, name)  # of this thread only
        tasks = context.parallelize(items, len(items))
        if needs_cpu_profile(dict(context.getConf().getAll()), context.master):
            tasks = tasks.withResources(_one_core())
        return tasks.mapPartitions(task).collect()

    return run_interruptibly(collect, on_stop=lambda: context.cancelJobGroup(group))


def needs_cpu_profile(conf: dict[str, str], master: str | None) -> bool:
    """Whether the session's tasks ask for more than one core, so that fewer would run at once than there are cores.

    So an administrator may have set it for GPUs; the tasks of preparation and prediction need none. Spark accepts a
    profile of tasks alone wherever it has executors; with dynamic allocation it would start new executors for it.
    """
    if is_local(master) or conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        return False
    asks_for_devices = any(key.startswith("spark.task.resource.") for key in conf)
    return asks_for_devices or conf.get("spark.task.cpus", "1") != "1"


def _one_core() -> "ResourceProfile":
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
