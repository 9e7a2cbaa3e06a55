"""What goes wrong on Kubernetes: it recovers, or says in one line what to do."""

import re
from pathlib import Path

import pytest

from tests.clusters.kubernetes.api_client import Object
from tests.clusters.kubernetes.kubelet import limits_memory
from tests.clusters.kubernetes.kubernetes_cluster import NAMESPACE, Kubernetes, KubernetesClient
from tests.end_to_end.conftest import Ended, wait_for

DENSE = ("model=dense", "cluster.cores_per_worker=1")


def _error(ended: Ended, code: int) -> str:
    """The one line of a run that has ended with ``code``."""
    assert ended.code == code, ended.output
    (line,) = ended.errors
    return line


def test_an_executor_whose_replacement_is_late_is_waited_for(
    kubernetes: Kubernetes, on_kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, runs = on_kubernetes.start(*DENSE, "train.epochs=60", "train.checkpoint_seconds=1")
    wait_for(lambda: list(runs.glob("checkpoints/*.npz")) or process.poll() is not None, "a checkpoint")
    lost = kubernetes.pods("executor")[0]
    monkeypatch.setattr(kubernetes.kubelet, "start_seconds", 20.0)  # longer than Spark itself waits for a slot
    kubernetes.delete(lost)
    ended = on_kubernetes.end(process, runs)
    assert ended.summary["train"]["epochs"] == 60
    assert len(ended.summary["failed_attempts"]) == 1, ended.output
    assert "Waiting for slots: 1 of 2" in ended.output


def test_an_image_that_is_not_there(on_kubernetes: KubernetesClient) -> None:
    image = {"spark.kubernetes.container.image": "nowhere/classifier:7"}
    line = _error(on_kubernetes(*DENSE, "cluster.slot_timeout=15", properties=image), 2)
    assert line.startswith("error: Expected 2 slots on k8s://https://") and "Received: 0 after 15 s" in line
    assert re.search(
        r"The pod \S+-exec-\d waits: ErrImagePull: no such image: nowhere/classifier:7\. "
        r"Set spark\.kubernetes\.container\.image to an image that the nodes can pull\.$",
        line,
    ), line


def test_pods_that_fit_on_no_node(on_kubernetes: KubernetesClient) -> None:
    size = {"spark.executor.memoryOverhead": "200g"}
    line = _error(on_kubernetes(*DENSE, "cluster.slot_timeout=15", properties=size), 2)
    assert "No node takes the pod" in line and "0/1 nodes are available: 1 Insufficient memory." in line
    assert "ask for less (spark.executor.memory" in line


def test_a_quota_that_allows_no_pods(kubernetes: Kubernetes, on_kubernetes: KubernetesClient) -> None:
    place, client = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas", kubernetes.server.client
    quota: Object = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    client.ask("POST", place, quota | {"spec": {"hard": {"pods": "0"}}})
    # What the quota controller counts.
    status = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
    client.ask("PATCH", f"{place}/none/status", status, "application/merge-patch+json")
    try:
        line = _error(on_kubernetes(*DENSE, "cluster.slot_timeout=20"), 2)
    finally:
        client.remove(f"{place}/none")
    assert "Spark may not make pods: pods " in line and "exceeded quota: none" in line


@pytest.mark.short
def test_a_token_that_is_not_right(kubernetes: Kubernetes, on_kubernetes: KubernetesClient) -> None:
    on_kubernetes.environment["KUBECONFIG"] = str(kubernetes.server.kubeconfig("wrong", NAMESPACE, token="wrong"))
    line = _error(on_kubernetes(*DENSE), 1)
    assert "does not accept the credentials (401 Unauthorized)" in line


@pytest.mark.short
def test_a_port_that_is_closed(on_kubernetes: KubernetesClient) -> None:
    line = _error(on_kubernetes(*DENSE, "cluster.master=k8s://https://10.88.0.1:444"), 1)
    assert re.search(r"Nothing listens at \S*10\.88\.0\.1:444 \(connection refused\)", line), line


def test_executors_without_the_shared_volume(on_kubernetes: KubernetesClient) -> None:
    elsewhere = Path(on_kubernetes.folder, "elsewhere")
    elsewhere.mkdir()
    other = {"spark.kubernetes.executor.volumes.hostPath.shared.options.path": str(elsewhere)}
    line = _error(on_kubernetes(*DENSE, properties=other), 2)
    assert "on storage that the driver and every executor share" in line


@pytest.mark.skipif(not limits_memory(), reason="Kubernetes: its kubelet limits memory by control groups of version 1")
def test_a_memory_limit_that_is_too_low(on_kubernetes: KubernetesClient) -> None:
    size = {"spark.executor.memory": "400m", "spark.executor.memoryOverhead": "200m"}
    line = _error(on_kubernetes("model=cnn", "cluster.max_attempts=1", properties=size), 1)
    assert "mostly for its memory limit of 600Mi" in line and "raise spark.executor.memoryOverhead" in line
