"""The one way into a barrier stage: spark-tensorflow-distributor's MirroredStrategyRunner behind a plain function."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed_cls.spark.resources import rank_profile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run_barrier(
    spark: "SparkSession",
    group: str,
    world_size: int,
    gpus_per_worker: int,
    function: Callable[..., str],
    **arguments: object,
) -> str:
    """Run ``function(**arguments)`` in each of ``world_size`` barrier tasks; what the first of them returns.

    ``group`` is the job group by which the stage can be cancelled. With GPUs each task sees its own as
    CUDA_VISIBLE_DEVICES. Raises whatever Spark raises when a task fails.
    """
    from distributed_cls.spark.profiled_runner import ProfiledRunner

    _silence_logger(ProfiledRunner.__name__)
    spark.sparkContext.setJobGroup(group, "distributed_cls: train and evaluate")
    runner = ProfiledRunner(world_size, gpus_per_worker, rank_profile(spark, gpus_per_worker))
    answer: str = runner.run(function, **arguments)
    return answer


def _silence_logger(name: str) -> None:
    """Keep the distributor's own notes off the screen: what it says is in our log already."""
    logger = logging.getLogger(name)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
