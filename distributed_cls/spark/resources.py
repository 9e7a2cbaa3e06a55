"""What a rank asks of Spark: GPUs, by a resource profile of the training stage alone.

Everything else of the session runs on all cores: its tasks ask for no GPU. The profile is of tasks, not of executors:
Spark starts executors for a profile under dynamic allocation only, under which it has no barrier stages. So the
executors of the session have the GPUs (``spark.executor.resource.gpu.amount``), and the profile says what each rank
takes of them.
"""

from typing import TYPE_CHECKING

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark.master import is_local

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

EXECUTOR_GPUS = "spark.executor.resource.gpu.amount"


def rank_profile(spark: "SparkSession", gpus_per_worker: int) -> "ResourceProfile | None":
    """What the task of a rank asks for: GPUs and the cores of any other task; None where it wants no GPU."""
    if not gpus_per_worker:
        return None
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    cores = int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cores).resource("gpu", gpus_per_worker)).build


def check_gpus(spark: "SparkSession", cluster: ClusterConfig) -> None:
    """Refuse a session whose executors have fewer GPUs than one rank wants."""
    if not cluster.gpus_per_worker:
        return
    used = str(spark.sparkContext.master)
    amount = spark.sparkContext.getConf().get(EXECUTOR_GPUS, "0")
    if is_local(used):
        raise UserError(
            f"Expected executors, which can be given GPUs (cluster.gpus_per_worker={cluster.gpus_per_worker}). "
            f"Received: {used}, whose tasks run in the driver. Set cluster.master=local-cluster[1,CORES,MEGABYTES]."
        )
    if float(amount or 0) < cluster.gpus_per_worker:
        raise UserError(
            f"Expected {EXECUTOR_GPUS} of at least {cluster.gpus_per_worker} (cluster.gpus_per_worker). "
            f"Received: {EXECUTOR_GPUS}={amount}. Set it in cluster.spark to the GPUs that one executor has."
        )
