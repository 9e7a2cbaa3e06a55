"""The tests' own kubelet, by pods without Spark: it tells the API server what a real one would, and leaves nothing."""

from collections.abc import Callable, Iterator

import pytest

from tests.clusters.kubernetes.api_client import Object
from tests.clusters.kubernetes.kubelet import IMAGE, limits_memory
from tests.clusters.kubernetes.kubernetes_cluster import NAMESPACE, Kubernetes
from tests.end_to_end.conftest import wait_for

_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
# Asks the API server as a driver does it: by its name, with the token and the certificate that the pod was given.
_ASK = """
import ssl, urllib.request as web
given = "/var/run/secrets/kubernetes.io/serviceaccount/"
trusted = web.HTTPSHandler(context=ssl.create_default_context(cafile=given + "ca.crt"))
who = {"Authorization": "Bearer " + open(given + "token").read()}
place = "https://kubernetes.default.svc/api/v1/namespaces/" + open(given + "namespace").read()
for kind in ("pods", "secrets"):
    try:
        question = web.Request(place + "/" + kind, headers=who)
        print(kind, web.build_opener(web.ProxyHandler({}), trusted).open(question).status)
    except web.HTTPError as error:
        print(kind, error.code)
"""


@pytest.fixture
def status_of(kubernetes: Kubernetes) -> Iterator[Callable[..., Object]]:
    """The status of a pod that runs ``words``, once ``reached``; the pods go with the test."""

    def run(
        name: str, *words: str, reached: Callable[[Object], object], image: str = IMAGE, **resources: Object
    ) -> Object:
        container = {"name": "main", "image": image, "args": list(words), "resources": resources}
        spec = {"restartPolicy": "Never", "serviceAccountName": NAMESPACE, "containers": [container]}
        kubernetes.server.client.ask("POST", _PODS, {"metadata": {"name": name}, "spec": spec})

        def look() -> Object | None:
            status: Object = kubernetes.server.client.ask("GET", f"{_PODS}/{name}")["status"]
            return status if reached(status) else None

        return dict(wait_for(look, name))

    yield run
    for pod in kubernetes.pods():
        kubernetes.delete(pod)
    wait_for(lambda: not kubernetes.pods(), "the end of all pods")


def _ended(status: Object) -> bool:
    return status.get("phase") in ("Succeeded", "Failed")


def _state(status: Object) -> Object:
    return dict(status["containerStatuses"][0]["state"])


def test_a_pod_has_its_name_its_rights_and_its_exit_code(
    kubernetes: Kubernetes, status_of: Callable[..., Object]
) -> None:
    status = status_of("one", "bash", "-c", 'hostname; python -c "$0"; exit 3', _ASK, reached=_ended)
    assert _state(status)["terminated"]["exitCode"] == 3
    assert kubernetes.kubelet.log_of("one").split("\n")[:3] == ["one", "pods 200", "secrets 403"]


def test_a_pod_sees_nothing_of_the_tests_folders(kubernetes: Kubernetes, status_of: Callable[..., Object]) -> None:
    assert kubernetes.shared.is_dir()
    status = status_of("blind", "test", "!", "-e", str(kubernetes.shared), reached=_ended)
    assert _state(status)["terminated"]["exitCode"] == 0


def test_an_image_that_is_not_there_is_waited_for(status_of: Callable[..., Object]) -> None:
    status = status_of("image", "true", image="nowhere:1", reached=lambda status: "containerStatuses" in status)
    assert status["phase"] == "Pending" and _state(status)["waiting"]["reason"] == "ErrImagePull"


def test_a_pod_that_asks_for_too_much_is_not_placed(status_of: Callable[..., Object]) -> None:
    status = status_of("large", "true", requests={"memory": "200Gi"}, reached=lambda status: "conditions" in status)
    assert status["conditions"][0]["reason"] == "Unschedulable"


@pytest.mark.skipif(not limits_memory(), reason="Kubernetes: its kubelet limits memory by control groups of version 1")
def test_a_pod_that_takes_more_than_its_limit_is_killed(status_of: Callable[..., Object]) -> None:
    take = "taken = b'x' * 300_000_000"
    status = status_of("greedy", "python", "-c", take, limits={"memory": "100Mi"}, reached=_ended)
    ended = _state(status)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
