"""Why executors do not come, out of pods as Kubernetes' API writes them."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_cls.spark import executor_pods, internals
from distributed_cls.spark.executor_pods import how_far, what_holds_up


def pod(name: str = "job-exec-1", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Pending", **status}}


def waits(reason: str, message: str | None = None) -> dict[str, Any]:
    return pod(containerStatuses=[{"state": {"waiting": {"reason": reason, "message": message}}}])


def test_an_image_that_cannot_be_pulled_is_named_with_the_property_to_set() -> None:
    found = what_holds_up([pod("job-exec-7"), waits("ImagePullBackOff", 'Back-off pulling image\n "nowhere/x:1"')], "")
    assert found == (
        'The pod job-exec-1 waits: ImagePullBackOff: Back-off pulling image "nowhere/x:1". '
        "Set spark.kubernetes.container.image to an image that the nodes can pull."
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available."}]},
            "No node takes the pod job-exec-1: 0/3 nodes are available. Give the cluster such a node, or ask for less",
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
            "The pod job-exec-1 waits: CreateContainerConfigError. See kubectl describe pod job-exec-1.",
        ),
        (
            {"containerStatuses": [{"state": {"terminated": {"exitCode": 128, "reason": "StartError"}}}]},
            "The pod job-exec-1 has ended with exit code 128: StartError. See kubectl logs job-exec-1.",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory"},
            "The pod job-exec-1 has failed: Evicted: The node was low on resource: memory.",
        ),
    ],
)
def test_what_keeps_a_pod_from_its_work(status: dict[str, Any], told: str) -> None:
    assert str(what_holds_up([pod(**status)], "")).startswith(told)


def test_pods_that_spark_may_not_make_are_found_in_its_log() -> None:
    log = (
        "12:00:01 WARN ExecutorPodsSnapshotsStoreImpl: Exception when notifying snapshot subscriber.\n"
        "io.fabric8.kubernetes.client.KubernetesClientException: Failure executing: POST at: "
        'https://10.0.0.1/api/v1/namespaces/jobs/pods. Message: pods "job-exec-1" is forbidden: exceeded quota: small, '
        "requested: pods=1, used: pods=0, limited: pods=0. Received status: Status(apiVersion=v1, code=403).\n"
    )
    assert what_holds_up([], log) == (
        'Spark may not make pods: pods "job-exec-1" is forbidden: exceeded quota: small, requested: pods=1, '
        "used: pods=0, limited: pods=0."
    )
    assert what_holds_up([pod()], log) is None  # it may again
    assert what_holds_up([], "") is None


def test_a_start_without_trouble_is_told_by_how_far_it_is() -> None:
    running = pod(phase="Running", containerStatuses=[{"state": {"running": {}}}])
    assert what_holds_up([running, waits("ContainerCreating")], "") is None
    assert how_far([running, waits("ContainerCreating")], "10.0.0.9").startswith(
        "1 of 2 pods run. An executor that runs and does not register cannot reach the driver at 10.0.0.9"
    )
    assert how_far([pod(), pod()], "10.0.0.9").startswith("2 of 2 pods are being started")
    assert how_far([], "10.0.0.9") == "There are no pods of executors; Spark's log says why."


def test_the_memory_limit_is_that_of_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(master="k8s://https://10.0.0.1"))
    containers = [{"name": "sidecar"}, {"name": "executor", "resources": {"limits": {"memory": "4505Mi"}}}]
    listed = {"items": [{"spec": {"containers": containers}}]}
    monkeypatch.setattr(internals, "executor_pods", lambda _: json.dumps(listed))
    assert executor_pods.memory_limit(spark) == "4505Mi"
    monkeypatch.setattr(internals, "executor_pods", lambda _: '{"items": []}')
    assert executor_pods.memory_limit(spark) is None


def test_other_clusters_and_a_server_that_does_not_answer_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(master: str) -> Any:
        return SimpleNamespace(sparkContext=SimpleNamespace(master=master))

    def fail(_: Any) -> str:
        raise OSError("connection refused")

    monkeypatch.setattr(internals, "executor_pods", fail)
    assert executor_pods.memory_limit(session("k8s://https://10.0.0.1")) is None
    assert executor_pods.why_slots_are_missing(session("k8s://https://10.0.0.1")) is None
    assert executor_pods.why_slots_are_missing(session("yarn")) is None
