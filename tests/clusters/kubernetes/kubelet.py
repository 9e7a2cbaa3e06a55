"""A small kubelet, scheduler and garbage collector: what a cluster of one node needs beside its API server.

Pods are processes of this machine (root, Linux): with their own view of its files, their own network, and, with control
groups of version 1, a limit of memory. There are no probes, restarts, logs by HTTP, or init containers.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.clusters.kubernetes.api_client import Object, Refused
from tests.clusters.kubernetes.api_server import ApiServer
from tests.clusters.kubernetes.network_namespace import GATEWAY
from tests.clusters.kubernetes.pod_process import PodProcess, amount
from tests.clusters.kubernetes.pod_root import Sandbox
from tests.patience import PATIENCE

IMAGE = "distributed-cls:latest"
_NODE_MEMORY = 64 * 2**30  # that pods may ask for; what they use is limited by what this machine has
_CONTROL_GROUPS = Path("/sys/fs/cgroup/memory")
_OWNED = ("pods", "services", "configmaps", "persistentvolumeclaims")


def limits_memory() -> bool:
    """Whether pods are held to their memory limits on this machine."""
    return (_CONTROL_GROUPS / "memory.limit_in_bytes").exists()


class Kubelet:
    """Carries out the pods of ``server``, whose image has nothing of the folder ``hidden``."""

    def __init__(self, server: ApiServer, hidden: Path) -> None:
        self.start_seconds = 0.0  # that a pod takes before it starts, as for a large image
        self.folder = server.folder / "kubelet"
        self._server, self._hidden = server, [hidden]
        self._hosts = self.folder / "hosts"
        self._pods: dict[str, PodProcess] = {}
        self._services: dict[tuple[str, str], dict[str, str]] = {}
        self._threads: list[threading.Thread] = []
        self._stop, self._lock, self._count = threading.Event(), threading.Lock(), 1
        self._group = _CONTROL_GROUPS / f"distributed-cls-{id(self)}" if limits_memory() else None

    def start(self) -> None:
        (self.folder / "logs").mkdir(parents=True)
        if self._group:
            self._group.mkdir()
        self._write_hosts()
        for watch in (self._watch_pods, self._watch_services):
            self._run(watch)

    def stop(self) -> None:
        """End all pods; the server is stopped after it, and with it the watches."""
        self._stop.set()
        for pod in list(self._pods.values()):
            pod.delete(0)

    def close(self) -> None:
        """Remove what the pods have left."""
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._group:
            self._group.rmdir()

    def log_of(self, name: str) -> str:
        """What pods whose names have ``name`` in them have written."""
        paths = sorted((self.folder / "logs").glob(f"*{name}*.log"))
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    # ── watching ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_pods(self) -> None:
        for change, item in self._server.client.events("/api/v1/pods", self._stop):
            meta = item["metadata"]
            known = self._pods.get(meta["uid"])
            if change == "DELETED":
                if known is not None:
                    self._run(lambda pod=known: self._forget(pod))  # type: ignore[misc]
                self._run(lambda uid=meta["uid"]: self._collect(uid))  # type: ignore[misc]
            elif known is None and item["status"].get("phase", "Pending") == "Pending":
                self._begin(item)
            elif known is not None and "deletionTimestamp" in meta and not known.deleted.is_set():
                grace = float(meta.get("deletionGracePeriodSeconds") or 0)
                known.deleted.set()
                self._run(lambda pod=known, grace=grace: pod.delete(grace))  # type: ignore[misc]

    def _watch_services(self) -> None:
        for change, item in self._server.client.events("/api/v1/services", self._stop):
            key = item["metadata"]["namespace"], item["metadata"]["name"]
            if change == "DELETED":
                self._services.pop(key, None)
            else:
                self._services[key] = item["spec"].get("selector") or {}
            self._write_hosts()

    def _write_hosts(self) -> None:
        """The name service: the file that every pod has as its /etc/hosts, written in place."""
        with self._lock:
            lines = ["127.0.0.1 localhost", f"{GATEWAY} kubernetes.default.svc"]
            for pod in list(self._pods.values()):
                lines.append(f"{pod.ip} {pod.name}")
                for (namespace, name), selector in list(self._services.items()):
                    if selector and namespace == pod.namespace and selector.items() <= pod.labels.items():
                        lines.append(f"{pod.ip} {name} {name}.{namespace} {name}.{namespace}.svc")
            self._hosts.write_text("\n".join(lines) + "\n")

    def _collect(self, gone: str) -> None:
        """Remove what belongs to an object that is gone."""
        client = self._server.client
        with contextlib.suppress(OSError):
            for kind in _OWNED:
                for item in client.items(f"/api/v1/{kind}"):
                    meta = item["metadata"]
                    if any(owner["uid"] == gone for owner in meta.get("ownerReferences", [])):
                        client.remove(f"/api/v1/namespaces/{meta['namespace']}/{kind}/{meta['name']}")

    # ── pods ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, item: Object) -> None:
        name = f"{item['metadata']['namespace']}.{item['metadata']['name']}"
        self._count += 1
        group = self._group / name if self._group else None
        sandbox = Sandbox(
            folder=self.folder / "pods" / f"{self._count}",
            name=item["metadata"]["name"],
            number=self._count,
            hosts=self._hosts,
            hidden=self._hidden,
            control_group=group,
            network=self._server.network,
        )
        pod = PodProcess(item, sandbox, self.folder / "logs" / f"{name}.log", self._server.client)
        self._pods[pod.uid] = pod
        self._write_hosts()
        self._run(lambda: self._carry_out(pod, item["spec"]["containers"][0], sandbox, self.start_seconds))

    def _carry_out(self, pod: PodProcess, container: Object, sandbox: Sandbox, seconds: float) -> None:
        try:
            if amount(container.get("resources", {}).get("requests", {}).get("memory", "0")) > _NODE_MEMORY:
                pod.unschedulable("0/1 nodes are available: 1 Insufficient memory.")
                return
            pod.place()
            if container["image"] != IMAGE:
                pod.waits("ErrImagePull", f"no such image: {container['image']}")
                return
            if seconds:
                pod.waits("ContainerCreating")
                pod.deleted.wait(seconds)
            pod.run()
        except Refused as error:
            if error.code not in (404, 409):  # gone before it was placed
                raise
        finally:
            pod.ended.set()
            _remove(sandbox)

    def _forget(self, pod: PodProcess) -> None:
        pod.delete(0)
        self._pods.pop(pod.uid, None)
        self._write_hosts()


def _remove(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.folder, ignore_errors=True)
    group, until = sandbox.control_group, time.monotonic() + PATIENCE
    while group is not None and group.exists():
        try:
            group.rmdir()
        except OSError:  # its processes are on their way
            assert time.monotonic() < until, group
            time.sleep(0.1)
