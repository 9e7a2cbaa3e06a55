"""Checks before a barrier stage starts: Spark itself reports these problems after minutes, or never."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import internals
from distributed_cls.spark.master import is_local

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

_POLL_SECONDS = 0.5

Waiting = Callable[[int, int], None]
"""Is called while slots are missing, with the number of slots found and the number wanted."""


def check(spark: "SparkSession", cluster: ClusterConfig, on_wait: Waiting | None = None) -> None:
    """Both checks: ``check_properties``, then ``wait_for_slots``."""
    check_properties(spark, cluster)
    wait_for_slots(spark, cluster, on_wait)


def check_properties(spark: "SparkSession", cluster: ClusterConfig) -> None:
    """Raise UserError when the session's properties do not allow a barrier stage of ``cluster``."""
    conf = spark.sparkContext.getConf()
    if _is_true(conf, "spark.dynamicAllocation.enabled"):
        raise UserError(
            "Expected a fixed set of executors for a barrier stage. Received: spark.dynamicAllocation.enabled=true. "
            "Set spark.dynamicAllocation.enabled=false."
        )
    if _is_true(conf, "spark.ssl.enabled"):
        raise UserError(
            "Expected spark.ssl.enabled=false: TensorFlow's own traffic between workers cannot be encrypted. "
            "Received: spark.ssl.enabled=true. Use a network that you trust, and set spark.ssl.enabled=false."
        )
    if cluster.gpus_per_worker:
        _check_gpu_amount(conf, cluster)


def _is_true(conf: "SparkConf", key: str) -> bool:
    return str(conf.get(key, "false")).lower() == "true"


def _check_gpu_amount(conf: "SparkConf", cluster: ClusterConfig) -> None:
    amount = conf.get("spark.task.resource.gpu.amount", None)
    if amount is None or float(amount) != cluster.gpus_per_worker:
        raise UserError(
            f"Expected spark.task.resource.gpu.amount={cluster.gpus_per_worker} (cluster.gpus_per_worker). "
            f"Received: spark.task.resource.gpu.amount={amount}. Set both to the same number."
        )


def slots(spark: "SparkSession") -> int:
    """Tasks that the cluster can run at once now, cores and GPUs considered: what Spark's own barrier check counts."""
    return internals.max_concurrent_tasks(spark)


def wait_for_slots(spark: "SparkSession", cluster: ClusterConfig, on_wait: Waiting | None = None) -> None:
    """Wait until Spark has a slot for every rank; UserError after ``cluster.slot_timeout`` seconds.

    A local master is not waited for: its slots are there from the start. ``on_wait`` is called at every look that
    finds too few.
    """
    master = spark.sparkContext.master
    limit = 0 if is_local(master) else cluster.slot_timeout
    deadline = time.monotonic() + limit
    while (found := slots(spark)) < cluster.workers:
        if time.monotonic() >= deadline:
            what = f"slots with {cluster.gpus_per_worker} GPU(s) each" if cluster.gpus_per_worker else "slots"
            waited = f" after {limit:g} s" if limit else ""
            remedy = f"Set cluster.workers={found}, or give" if found else "Give"
            raise UserError(
                f"Expected {cluster.workers} {what} on {master} (cluster.workers). "
                f"Received: {found}{waited}. {remedy} the cluster more cores."
            )
        if on_wait is not None:
            on_wait(found, cluster.workers)
        time.sleep(_POLL_SECONDS)


def threads_per_rank(spark: "SparkSession", cluster: ClusterConfig) -> int:
    """CPU threads of each rank: as configured, else its share of a local master's slots, or a Spark task's cores."""
    if cluster.cores_per_worker:
        return cluster.cores_per_worker
    context = spark.sparkContext
    if is_local(context.master):
        return max(1, slots(spark) // cluster.workers)
    return int(context.getConf().get("spark.task.cpus", "1"))
