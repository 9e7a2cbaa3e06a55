"""What must hold before a barrier stage is started: Spark itself would find out after minutes, or never."""

import time
from typing import Any

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError

_POLL_SECONDS = 0.5


def check(spark: Any, cluster: ClusterConfig) -> None:
    """Refuse with one line what a barrier stage of ``cluster`` cannot run on."""
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        raise UserError(
            "Expected a fixed set of executors for a barrier stage. Received: spark.dynamicAllocation.enabled=true. "
            "Set spark.dynamicAllocation.enabled=false."
        )
    if conf.get("spark.ssl.enabled", "false").lower() == "true":
        raise UserError(
            "Expected spark.ssl.enabled=false: TensorFlow's own traffic between workers cannot be encrypted. "
            "Received: spark.ssl.enabled=true. Use a network that you trust, and set spark.ssl.enabled=false."
        )
    if cluster.gpus_per_worker:
        _check_gpu_conf(conf, cluster)
    _await_slots(spark, cluster)


def _check_gpu_conf(conf: Any, cluster: ClusterConfig) -> None:
    amount = conf.get("spark.task.resource.gpu.amount", None)
    if amount is None or int(float(amount)) != cluster.gpus_per_worker:
        raise UserError(
            f"Expected spark.task.resource.gpu.amount={cluster.gpus_per_worker} (cluster.gpus_per_worker). "
            f"Received: spark.task.resource.gpu.amount={amount}. Set both to the same number."
        )


def slots(spark: Any) -> int:
    """Tasks that the cluster can run at once now, cores and GPUs considered: what Spark's own barrier check counts."""
    context = spark.sparkContext._jsc.sc()
    return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))


def _await_slots(spark: Any, cluster: ClusterConfig) -> None:
    """Wait until enough executors have registered; on a local master there is nothing to wait for."""
    local = spark.sparkContext.master.startswith("local[") or spark.sparkContext.master == "local"
    deadline = time.monotonic() + (0 if local else cluster.slot_timeout)
    while (found := slots(spark)) < cluster.workers:
        if time.monotonic() >= deadline:
            what = f"slots with {cluster.gpus_per_worker} GPU(s) each" if cluster.gpus_per_worker else "slots"
            waited = "" if local else f" after {cluster.slot_timeout:g} s"
            raise UserError(
                f"Expected {cluster.workers} {what} on {spark.sparkContext.master} (cluster.workers). "
                f"Received: {found}{waited}. Set cluster.workers={max(found, 1)}, or give the cluster more cores."
            )
        time.sleep(_POLL_SECONDS)


def threads_per_rank(spark: Any, cluster: ClusterConfig) -> int:
    """CPU threads of each rank: the cores of its Spark slot, or its share of a local machine's slots."""
    if cluster.cores_per_worker:
        return cluster.cores_per_worker
    context = spark.sparkContext
    if context.master.startswith("local["):
        return max(1, slots(spark) // cluster.workers)
    return int(context.getConf().get("spark.task.cpus", "1"))
