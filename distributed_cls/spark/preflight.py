"""What must hold before a barrier stage is started: Spark itself would find out after minutes, or never."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import executor_pods, internals, master, resources

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Who sets one of these expects that nothing of a job can be read on the network.
_ENCRYPTION = ("spark.network.crypto.enabled", "spark.ssl.enabled", "spark.authenticate.enableSaslEncryption")
_POLL_SECONDS = 0.5
_QUIET_SECONDS = 5.0  # of waiting, before a line says for what, and again when it is for something else


def check(spark: "SparkSession", cluster: ClusterConfig) -> None:
    """Refuse with one line what a barrier stage of ``cluster`` cannot run on; wait for the fewest slots that do."""
    check_properties(spark, cluster)
    least = cluster.least_workers
    if (found := _await_slots(spark, cluster, least)) < least:
        raise _too_few(spark, cluster, found)


def check_properties(spark: "SparkSession", cluster: ClusterConfig) -> None:
    """Refuse properties of the session that a barrier stage cannot run with."""
    conf = spark.sparkContext.getConf()
    if _is_on(conf, "spark.dynamicAllocation.enabled"):
        raise UserError(
            "Expected a fixed set of executors for a barrier stage. Received: spark.dynamicAllocation.enabled=true. "
            "Set spark.dynamicAllocation.enabled=false."
        )
    encrypted = [name for name in _ENCRYPTION if _is_on(conf, name)]
    if encrypted and cluster.workers > 1 and not cluster.allow_plaintext_gradients:
        raise UserError(
            "Expected a network that may carry gradients in plain text: TensorFlow's traffic between workers cannot be "
            f"encrypted. Received: {encrypted[0]}=true. On a network that you trust set "
            "cluster.allow_plaintext_gradients=true."
        )
    resources.check_gpus(spark, cluster)


def _is_on(conf: "SparkConf", name: str) -> bool:
    return str(conf.get(name, "false")).lower() == "true"


def none_held() -> int:
    """The slots that other crews hold, where there are none."""
    return 0


def wait_for_slots(spark: "SparkSession", cluster: ClusterConfig, held: Callable[[], int] = none_held) -> int:
    """Wait until the executors offer a slot for each worker, besides those ``held``; how many workers there can be.

    Before every stage: an executor that was lost takes up to a minute to be replaced, and Spark gives up sooner. When
    the wait is over fewer will do, down to ``cluster.min_workers``. Raises UserError when there are not even these.
    """
    found = _await_slots(spark, cluster, cluster.workers, held)
    if found >= cluster.workers:
        return cluster.workers
    if found < cluster.least_workers:
        raise _too_few(spark, cluster, found)
    log.warning(
        "There are slots for %d of %d workers: training with these (cluster.min_workers=%d), and with all from the end "
        "of an epoch on at which the slots are back",
        *(found, cluster.workers, cluster.least_workers),
    )
    return found


def has_all_slots(spark: "SparkSession", cluster: ClusterConfig, held: Callable[[], int] = none_held) -> bool:
    """Whether the executors offer a slot for each worker now, besides those ``held``."""
    return slots(spark, cluster.gpus_per_worker) - held() >= cluster.workers


def slots(spark: "SparkSession", gpus_per_worker: int) -> int:
    """How many workers with so many GPUs each the executors that are there now can have in all."""
    return internals.max_concurrent_tasks(spark, resources.rank_profile(spark, gpus_per_worker))


def _await_slots(
    spark: "SparkSession", cluster: ClusterConfig, wanted: int, held: Callable[[], int] = none_held
) -> int:
    """The slots once there are as many as ``wanted``, or ``cluster.slot_timeout`` is over.

    A local master has all of its slots at once.
    """
    used = str(spark.sparkContext.master)
    began = time.monotonic()
    limit = 0.0 if master.is_local(used) else cluster.slot_timeout
    look_at, told = _QUIET_SECONDS, ""
    while (found := max(0, slots(spark, cluster.gpus_per_worker) - held())) < wanted:
        waited = time.monotonic() - began
        if waited >= limit:
            break
        if waited >= look_at:
            look_at = waited + _QUIET_SECONDS
            why = executor_pods.why_slots_are_missing(spark, starting=False)
            whole = f"for at most {cluster.slot_timeout:g} s{f'. {why}' if why else ''}"
            if whole != told:
                told = whole
                log.info("Waiting for slots: %d of %d, %s", found, wanted, whole)
        time.sleep(_POLL_SECONDS)
    return found


def _too_few(spark: "SparkSession", cluster: ClusterConfig, found: int) -> UserError:
    used = str(spark.sparkContext.master)
    what = f"slots with {cluster.gpus_per_worker} GPU(s) each" if cluster.gpus_per_worker else "slots"
    after = "" if master.is_local(used) else f" after {cluster.slot_timeout:g} s (cluster.slot_timeout)"
    setting = "cluster.workers" if cluster.min_workers is None else "cluster.min_workers"
    more = f"{f'Set {setting}={found}, or give' if found else 'Give'} the cluster more cores."
    return UserError(
        f"Expected {cluster.least_workers} {what} on {used} ({setting}). "
        f"Received: {found}{after}. {executor_pods.why_slots_are_missing(spark) or more}"
    )


def threads_per_rank(spark: "SparkSession", cluster: ClusterConfig) -> int:
    """CPU threads of each rank: the cores of its Spark slot, or its share of a local machine's slots."""
    if cluster.cores_per_worker:
        return cluster.cores_per_worker
    context = spark.sparkContext
    if master.is_local(str(context.master)):
        return max(1, internals.max_concurrent_tasks(spark) // cluster.workers)
    return int(context.getConf().get("spark.task.cpus", "1"))
