"""The product on YARN and HDFS: the same digits, the same weights, and what is said when it goes wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.clusters.conftest import Client
from tests.clusters.hadoop import Hadoop
from tests.end_to_end.conftest import Ended

# A node has 8 GB, so that the executors of a job fit on one of them.
SIZE = {"spark.executor.instances": "2", "spark.executor.memory": "512m", "spark.executor.memoryOverhead": "2g"}
DRIVER = {"spark.driver.memory": "512m", "spark.driver.memoryOverhead": "1g"}
JOB = ("model=cnn", "train.epochs=2", "train.deterministic=true", "cluster.cores_per_worker=1")
PROPERTIES = "+cluster.spark={spark.executor.memory:512m,spark.executor.memoryOverhead:2g}"


def test_both_nodes_prepare_into_hdfs(yarn: Hadoop, client: Client) -> None:
    ended = client("job=prepare", "cluster=yarn", f"dataset_root={yarn.hdfs}/short", PROPERTIES)
    assert ended.code == 0, ended.output
    assert sum(ended.summary["dataset"]["counts"]["train"].values()) == 1259
    assert ended.summary["dataset"]["path"].startswith(f"{yarn.hdfs}/short/digits-")
    last = yarn.applications()[-1]
    assert (last["applicationType"], last["finalStatus"]) == ("SPARK", "SUCCEEDED")


@pytest.fixture(scope="module")
def on_this_machine(launch_once: Callable[..., Ended]) -> dict[str, np.ndarray]:
    """The weights of the same job on a local master, from a local disk."""
    return _weights(launch_once(*JOB))


def _weights(ended: Ended) -> dict[str, np.ndarray]:
    assert ended.code == 0 and ended.folder is not None, ended.output
    with np.load(ended.folder / "checkpoints" / "best.npz") as stored:
        return {name: stored[name] for name in stored.files if name != "position.json"}


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_a_submitted_job_on_hdfs_has_the_weights_of_a_local_one(
    mode: str, yarn: Hadoop, client: Client, on_this_machine: dict[str, np.ndarray]
) -> None:
    """The choice is cluster=local, and its master another one than YARN: what was submitted decides."""
    ended = client.submit(mode, *JOB, f"dataset_root={yarn.hdfs}/trained", conf=SIZE | DRIVER)
    found = _weights(ended)
    assert found.keys() == on_this_machine.keys() and len(found) > 40
    for name, value in found.items():
        np.testing.assert_array_equal(value, on_this_machine[name], err_msg=name)
    assert ended.summary["dataset"]["path"].startswith(yarn.hdfs)
    assert ended.summary["workers"] == 2
    assert ended.folder is not None
    assert "Spark 4" in (log := (ended.folder / "launch.log").read_text()) and "on yarn" in log


def test_a_mistake_in_cluster_mode_is_found_once_and_said_again(yarn: Hadoop, client: Client) -> None:
    runs = client.folder / "submitted-cluster"
    ended = client.submit("cluster", "model=cnn", "dataset_root=datasets", conf=DRIVER)
    assert ended.code == 1, "Spark knows no other code of a cluster's driver"
    assert "User application exited with status 2" in yarn.container_logs(last=True)
    lines = [line for line in yarn.container_logs(last=True).splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert "Expected dataset_root to be an absolute path" in lines[0] and "dataset_root=datasets" in lines[0]
    assert lines[1].startswith(lines[0]) and lines[1].endswith("(YARN's second attempt; the first one ended so)")
    assert not Path(runs, "summary.json").exists()
