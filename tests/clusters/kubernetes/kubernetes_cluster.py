"""The API server, its kubelet and a client of both: a cluster that is there while a block runs."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from distributed_cls.spark.java import java_home
from distributed_cls.spark.properties import LOCAL_JAVA
from tests.clusters.kubernetes import api_server
from tests.clusters.kubernetes.api_client import Object
from tests.clusters.kubernetes.api_server import MASTER, ApiServer, Unavailable
from tests.clusters.kubernetes.kubelet import Kubelet
from tests.clusters.kubernetes.network_namespace import GATEWAY
from tests.clusters.kubernetes.pod_root import ROOT
from tests.end_to_end.conftest import Ended, Launcher
from tests.patience import PATIENCE

NAMESPACE = "distributed-cls"  # of deploy/kubernetes/
MANIFESTS = ROOT / "deploy" / "kubernetes"
# Of Spark's client, which otherwise gives a busy machine ten seconds.
_PATIENCE = {
    f"spark.kubernetes.driver.{wait}Timeout": str(round(PATIENCE * 1000)) for wait in ("connection", "request")
}
_TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount")


class Kubernetes:
    """A cluster of one node, with the namespace, the service account and the rights of ``deploy/kubernetes``.

    Of ``hidden``, a folder, its pods see nothing but ``shared`` in it, and that only as a volume.
    """

    def __init__(self, program: Path, folder: Path, hidden: Path) -> None:
        self.shared = folder / "shared"
        self.server = ApiServer(program, folder / "server")
        self.kubelet = Kubelet(self.server, hidden)

    def start(self) -> None:
        self.shared.mkdir()
        self.server.start()
        self.kubelet.start()
        for name in ("namespace.yaml", "access.yaml"):
            self.server.apply(*api_server.objects_of(MANIFESTS / name))
        self.kubeconfig = self.server.kubeconfig("kubeconfig", NAMESPACE)

    def pods(self, role: str = "") -> list[Object]:
        """The pods of Spark, or those of one role, executor or driver."""
        selector = f"?labelSelector=spark-role={role}" if role else ""
        return self.server.client.items(f"/api/v1/namespaces/{NAMESPACE}/pods{selector}")

    def delete(self, pod: Object, grace_seconds: int = 0) -> None:
        """Delete a pod, as a user or a node that is drained does it."""
        self.server.client.remove(
            f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}?gracePeriodSeconds={grace_seconds}"
        )


@contextlib.contextmanager
def running(folder: Path, hidden: Path, build: bool) -> Iterator[Kubernetes]:
    """A cluster in ``folder`` while the block runs. Raises Unavailable."""
    _check_machine()
    cluster = Kubernetes(api_server.binary(build), folder, hidden)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kubelet.stop()
        cluster.server.stop()
        cluster.kubelet.close()


def _check_machine() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("its kubelet needs Linux and root")
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"its kubelet needs {', '.join(missing)}")
    if "overlay" not in Path("/proc/filesystems").read_text():
        raise Unavailable("its kubelet needs the file system overlay")
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        raise Unavailable(f"its kubelet needs namespaces of its own: {tried.stderr.strip()}")


class KubernetesClient(Launcher):
    """A client of a cluster, on its network: ``python -m launch`` as everywhere."""

    def __init__(self, name: str, cluster: Kubernetes) -> None:
        folder = cluster.shared / name
        folder.mkdir()
        environment = {
            "JAVA_HOME": java_home(),
            "JAVA_TOOL_OPTIONS": LOCAL_JAVA,  # many Javas on few cores, each of them for a minute
            "KUBECONFIG": str(cluster.kubeconfig),
            "SPARK_LOCAL_IP": GATEWAY,  # of this network
        }
        super().__init__(folder, cluster.shared / "datasets", environment)
        self._cluster = cluster
        self.within = cluster.server.network.prefix

    def start(self, *arguments: str, properties: dict[str, str] | None = None) -> "tuple[subprocess.Popen[str], Path]":
        """The running launcher in client mode, and its run folder."""
        wanted = {
            "spark.kubernetes.namespace": NAMESPACE,
            **_volume("executor", self._cluster.shared),
            **(properties or {}),
        }
        spark = ",".join(f"{key}:{value}" for key, value in wanted.items())
        return super().start(
            "cluster=kubernetes", f"cluster.master={MASTER}", f"+cluster.spark={{{spark}}}", *arguments
        )

    def __call__(self, *arguments: str, properties: dict[str, str] | None = None) -> Ended:
        """Run to the end."""
        return self.end(*self.start(*arguments, properties=properties))


def _volume(role: str, folder: Path) -> dict[str, str]:
    """The properties by which the pods of ``role`` mount ``folder`` under its own path."""
    volume = f"spark.kubernetes.{role}.volumes.hostPath.shared"
    return {f"{volume}.mount.path": str(folder), f"{volume}.options.path": str(folder)}
