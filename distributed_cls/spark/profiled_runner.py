"""spark-tensorflow-distributor's runner, whose tasks ask for what they need by a resource profile of their own."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from spark_tensorflow_distributor import MirroredStrategyRunner

if TYPE_CHECKING:
    from pyspark import RDD, SparkConf, SparkContext
    from pyspark.resource import ResourceProfile


class ProfiledRunner(MirroredStrategyRunner):
    """A barrier stage of ``world_size`` tasks with ``gpus_per_worker`` GPUs each, which ``profile`` asks for.

    The distributor itself knows only ``spark.task.resource.gpu.amount``, which would hold every stage of the session to
    as many tasks as there are GPUs. Its tasks first tell each other their addresses by Spark's ``allGather``, which
    looks for the answer once a second; ranks meet over our own line (``barrier/rendezvous.py``), so ours do without.
    """

    sc: Any  # the distributor's name for its SparkContext

    def __init__(self, world_size: int, gpus_per_worker: int, profile: "ResourceProfile | None") -> None:
        self._world_size = world_size
        slots = world_size * max(1, gpus_per_worker)
        super().__init__(num_slots=slots, use_gpu=gpus_per_worker > 0, use_custom_strategy=True)
        if profile is not None:
            self.sc = _WithProfile(self.sc, profile)

    def get_num_tasks(self) -> int:
        """The number of tasks, one for each rank."""
        return self._world_size

    def _get_spark_task_program(self, train_fn: Callable[..., str], **arguments: object) -> Callable[..., list[str]]:
        """What each task runs. Pickled by value: it refers to nothing of this module."""
        uses_gpus, gpus, resource = self._use_gpu, self._num_slots // self._num_tasks, self._gpu_resource_name

        def program(_: Iterator[int]) -> list[str]:
            import os

            from pyspark import BarrierTaskContext

            visible: list[str] = []
            if uses_gpus:
                from spark_tensorflow_distributor import MirroredStrategyRunner

                owned = MirroredStrategyRunner._get_gpus_owned(BarrierTaskContext.get().resources(), resource)
                visible = [str(gpu) for gpu in owned[:gpus]]
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible)
            return [train_fn(**arguments)]

        return program


class _WithProfile:
    """The part of a ``SparkContext`` that the distributor uses, with a resource profile for what it makes."""

    def __init__(self, context: "SparkContext", profile: "ResourceProfile") -> None:
        self._context, self._profile = context, profile

    def parallelize(self, items: Any, partitions: int) -> "RDD[Any]":
        return self._context.parallelize(items, partitions).withResources(self._profile)

    def getConf(self) -> "SparkConf":  # noqa: N802 - Spark's name
        return self._context.getConf()
