"""The product on Kubernetes: the same digits, the same weights, in client mode and in cluster mode."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.clusters.kubernetes.kubernetes_cluster import Kubernetes, KubernetesClient
from tests.end_to_end.conftest import Ended

SIZE = {"spark.executor.instances": "2", "spark.executor.memory": "512m", "spark.executor.memoryOverhead": "3g"}
DRIVER = {"spark.driver.memory": "512m", "spark.driver.memoryOverhead": "2g"}
JOB = ("model=dense", "train.epochs=2", "train.deterministic=true", "cluster.cores_per_worker=1")


@pytest.fixture(scope="module")
def on_this_machine(launch_once: Callable[..., Ended]) -> dict[str, np.ndarray]:
    """The weights of the same job on a local master."""
    return _weights(launch_once(*JOB))


def _weights(ended: Ended) -> dict[str, np.ndarray]:
    assert ended.code == 0 and ended.folder is not None, ended.output
    with np.load(ended.folder / "checkpoints" / "best.npz") as stored:
        return {name: stored[name] for name in stored.files if name != "position.json"}


def _same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys() and len(found) > 4
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_client_mode_has_the_weights_of_a_local_run(
    on_kubernetes: KubernetesClient, on_this_machine: dict[str, np.ndarray]
) -> None:
    ended = on_kubernetes(*JOB)
    _same(_weights(ended), on_this_machine)
    assert ended.summary["workers"] == 2


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_a_submitted_job_has_the_weights_of_a_local_one(
    mode: str, kubernetes: Kubernetes, on_kubernetes: KubernetesClient, on_this_machine: dict[str, np.ndarray]
) -> None:
    """The choice is cluster=local, and its master another one: what was submitted decides."""
    ended = on_kubernetes.submit(mode, *JOB, conf=SIZE | DRIVER)
    for pod in kubernetes.pods("driver"):  # which stays for its log
        kubernetes.delete(pod)
    _same(_weights(ended), on_this_machine)
    assert ended.folder is not None
    assert " on k8s://https://" in (ended.folder / "launch.log").read_text()


@pytest.mark.short
def test_executors_prepare_on_the_shared_volume(on_kubernetes: KubernetesClient) -> None:
    ended = on_kubernetes("job=prepare", f"dataset_root={on_kubernetes.folder}/prepared")
    assert sum(ended.summary["dataset"]["counts"]["train"].values()) == 1259
