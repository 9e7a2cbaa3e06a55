"""One barrier stage, by way of spark-tensorflow-distributor: the only module that knows this package."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Result = TypeVar("Result")

JOB_DESCRIPTION = "distributed_cls: train and evaluate"


def run_barrier(
    spark: "SparkSession",
    world_size: int,
    gpus_per_worker: int,
    function: Callable[..., Result],
    *,
    job_group: str | None = None,
    **kwargs: object,
) -> Result:
    """Call ``function(**kwargs)`` in ``world_size`` barrier tasks at once; what it returns in task 0.

    Each task has ``gpus_per_worker`` GPUs, named by its CUDA_VISIBLE_DEVICES. ``spark.sparkContext.cancelJobGroup(
    job_group)``, from any thread, ends the stage. Blocks; raises what Spark raises (a barrier stage is never retried).
    """
    from spark_tensorflow_distributor import MirroredStrategyRunner

    _mute_distributor()
    if job_group is not None:
        spark.sparkContext.setJobGroup(job_group, JOB_DESCRIPTION)  # of this thread only
    runner = MirroredStrategyRunner(
        num_slots=world_size * max(1, gpus_per_worker),  # it counts GPUs when there are any, and tasks otherwise
        use_gpu=gpus_per_worker > 0,
        use_custom_strategy=True,
    )
    result: Result = runner.run(function, **kwargs)
    return result


def _mute_distributor() -> None:
    """Drop the distributor's log lines, which repeat the supervisor's; without a handler it would add one to stderr."""
    logger = logging.getLogger("MirroredStrategyRunner")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
