"""The product on Kubernetes: executors in pods, and what a client reads that cannot reach the cluster."""

import re

from tests.clusters.kubernetes.kubernetes_cluster import KubernetesClient


def test_executors_prepare_on_the_shared_volume(on_kubernetes: KubernetesClient) -> None:
    ended = on_kubernetes("job=prepare", f"dataset_root={on_kubernetes.folder}/prepared")
    assert sum(ended.summary["dataset"]["counts"]["train"].values()) == 1259


def test_a_port_that_is_closed(on_kubernetes: KubernetesClient) -> None:
    ended = on_kubernetes("model=dense", "cluster.master=k8s://https://10.88.0.1:444")
    assert ended.code == 1
    (line,) = ended.errors
    assert re.search(r"Nothing listens at \S*10\.88\.0\.1:444 \(connection refused\)", line), line
