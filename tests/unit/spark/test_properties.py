"""What Spark is told, without starting it."""

from pathlib import Path
from typing import Any

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.spark.properties import LOCAL_JAVA, chosen_master, job_properties, jvm_properties, properties

SCRATCH = Path("/scratch")


def of(**settings: Any) -> dict[str, str]:
    cluster = ClusterConfig(**settings)
    return properties(cluster, chosen_master(cluster), SCRATCH)


@pytest.mark.parametrize(
    ("master", "here"), [("local[2]", True), ("local-cluster[1,2,1024]", True), ("spark://x", False), (None, False)]
)
def test_on_this_machine_spark_stays_on_loopback_and_its_java_is_small(master: str | None, here: bool) -> None:
    found = of(master=master)
    assert (found.get("spark.driver.host") == "127.0.0.1") is here
    assert found.get("spark.master") == master
    options = jvm_properties(ClusterConfig(), master, SCRATCH)["spark.driver.extraJavaOptions"]
    assert (LOCAL_JAVA in options) is here
    assert "-Djava.io.tmpdir=/scratch " in options


def test_the_submitted_master_decides_not_the_configured_one() -> None:
    found = properties(ClusterConfig(master="local[2]"), "spark://node:7077", SCRATCH)
    assert found["spark.master"] == "spark://node:7077"
    assert "spark.driver.host" not in found


def test_hadoop_waits_for_yarn_as_long_as_for_slots() -> None:
    name = "spark.hadoop.yarn.resourcemanager.connect.max-wait.ms"
    assert of(master="yarn", slot_timeout=90)[name] == "90000"
    assert name not in of(master="local[2]")


def test_barrier_stages_fail_early() -> None:
    found = of(rendezvous_timeout=45)
    assert found["spark.barrier.sync.timeout"] == "45"
    assert found["spark.dynamicAllocation.enabled"] == "false"
    assert job_properties(ClusterConfig(), None).items() <= of().items() | {("spark.master", None)}


def test_the_users_own_properties_win() -> None:
    found = of(spark={"spark.dynamicAllocation.enabled": "true", "spark.executor.instances": 3, "spark.master": "yarn"})
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert found["spark.executor.instances"] == "3"
    assert found["spark.master"] == "yarn" and "spark.driver.host" not in found


def test_an_archive_of_classes_is_used_unless_the_user_names_another() -> None:
    cluster = ClusterConfig(spark={"spark.driver.extraJavaOptions": "-XX:SharedArchiveFile=/mine.jsa"})
    found = jvm_properties(cluster, "local[2]", SCRATCH, Path("/cache/spark.jsa"))["spark.driver.extraJavaOptions"]
    archives = [option for option in found.split() if option.startswith("-XX:SharedArchiveFile=")]
    assert archives == [
        "-XX:SharedArchiveFile=/cache/spark.jsa",
        "-XX:SharedArchiveFile=/mine.jsa",
    ]  # the last one wins


def test_the_users_java_options_are_added_to_ours() -> None:
    cluster = ClusterConfig(spark={"spark.driver.extraJavaOptions": "-Dmine=1"})
    options = jvm_properties(cluster, "yarn", SCRATCH)["spark.driver.extraJavaOptions"].split()
    assert options[-1] == "-Dmine=1" and "-Djava.io.tmpdir=/scratch" in options


def test_gpus_are_discovered_here_and_left_to_the_administrator_elsewhere() -> None:
    here = of(master="local-cluster[1,4,1024]", workers=3, gpus_per_worker=2)
    assert not [key for key in here if key.startswith("spark.task.resource")], "only ranks ask for GPUs"
    assert here["spark.worker.resource.gpu.amount"] == here["spark.executor.resource.gpu.amount"] == "6"
    assert here["spark.worker.resource.gpu.discoveryScript"] == "/scratch/find_gpus.sh"
    there = of(master="spark://node:7077", workers=3, gpus_per_worker=2)
    assert not [key for key in there if "gpu" in key]
