"""Which stages run under a profile of one core."""

import pytest

from distributed_cls.spark.stage import needs_cpu_profile

_GPU = {"spark.task.resource.gpu.amount": "1"}


@pytest.mark.parametrize(
    ("conf", "master", "needed"),
    [
        ({}, "spark://h:1", False),
        (_GPU, "spark://h:1", True),
        (_GPU, "local-cluster[1,2,1024]", True),
        (_GPU, "yarn", True),
        (_GPU, "k8s://https://h", True),
        ({"spark.task.resource.fpga.amount": "1"}, "yarn", True),
        ({"spark.task.cpus": "4"}, "yarn", True),
        ({"spark.task.cpus": "1"}, "yarn", False),
        ({"spark.executor.resource.gpu.amount": "1"}, "yarn", False),
        (_GPU, "local[2]", False),  # Spark refuses profiles without executors
        ({**_GPU, "spark.dynamicAllocation.enabled": "true"}, "yarn", False),
    ],
)
def test_only_tasks_that_ask_for_more_than_a_core_need_one(conf: dict[str, str], master: str, needed: bool) -> None:
    assert needs_cpu_profile(conf, master) is needed
