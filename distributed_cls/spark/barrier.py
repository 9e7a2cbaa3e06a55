"""The one way into a barrier stage: spark-tensorflow-distributor's MirroredStrategyRunner behind a plain function."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

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
    from spark_tensorflow_distributor import MirroredStrategyRunner

    _silence_logger("MirroredStrategyRunner")
    spark.sparkContext.setJobGroup(group, "distributed_cls: train and evaluate")
    runner = MirroredStrategyRunner(
        num_slots=world_size * max(1, gpus_per_worker), use_gpu=gpus_per_worker > 0, use_custom_strategy=True
    )
    answer: str = runner.run(function, **arguments)
    return answer


def _silence_logger(name: str) -> None:
    """Keep the distributor's own notes off the screen: what it says is in our log already."""
    logger = logging.getLogger(name)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
