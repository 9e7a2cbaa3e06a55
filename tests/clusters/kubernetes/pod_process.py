"""One pod, from its place on the node to its end."""

import contextlib
import datetime
import os
import signal
import subprocess
import threading
from pathlib import Path

from tests.clusters.kubernetes import pod_volumes
from tests.clusters.kubernetes.api_client import MERGE_PATCH, ApiClient, Object, Refused
from tests.clusters.kubernetes.network_namespace import GATEWAY
from tests.clusters.kubernetes.pod_root import IMAGE_ENVIRONMENT, Sandbox, address

_POLL_SECONDS = 0.2
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


class PodProcess:
    """Carries out ``pod`` in a thread of its own, and tells the API server how it goes."""

    def __init__(self, pod: Object, sandbox: Sandbox, log: Path, client: ApiClient) -> None:
        meta = pod["metadata"]
        self.name, self.namespace, self.uid = str(meta["name"]), str(meta["namespace"]), str(meta["uid"])
        self.labels: dict[str, str] = meta.get("labels", {})
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.ip = address(sandbox.number)
        self.ended, self.deleted = threading.Event(), threading.Event()
        self._pod, self._container, self._sandbox = pod, pod["spec"]["containers"][0], sandbox
        self._log, self._client, self._began = log, client, _now()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    # ── what the API server is told ──────────────────────────────────────────────────────────────────────────────────

    def unschedulable(self, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._report({"phase": "Pending", "conditions": [condition]})

    def waits(self, reason: str, message: str = "") -> None:
        self._tell("Pending", {"waiting": {"reason": reason, "message": message}})

    def place(self) -> None:
        """On the one node, as a scheduler does it."""
        target = {"apiVersion": "v1", "kind": "Node", "name": "local"}
        self._client.ask("POST", f"{self.path}/binding", {"metadata": {"name": self.name}, "target": target})

    def _tell(self, phase: str, state: Object) -> None:
        running = "running" in state
        image = {"name": self._container["name"], "image": self._container["image"], "imageID": ""}
        conditions = [
            {"type": kind, "status": str(running), "lastTransitionTime": _now()}
            for kind in ("Initialized", "Ready", "ContainersReady")
        ]
        status = {"restartCount": 0, "ready": running, "started": running, "state": state}
        self._report(
            {
                "phase": phase,
                "hostIP": GATEWAY,
                "podIP": self.ip,
                "podIPs": [{"ip": self.ip}],
                "startTime": self._began,
                "conditions": conditions,
                "containerStatuses": [image | status],
            }
        )

    def _report(self, status: Object) -> None:
        with contextlib.suppress(OSError):  # the server has ended, and with it the test
            try:
                self._client.ask("PATCH", f"{self.path}/status", {"status": status}, MERGE_PATCH)
            except Refused as error:
                if error.code != 404:
                    raise

    # ── its process ──────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Start the container and wait for its end."""
        try:
            command = self._command()
            with self._lock, self._log.open("ab") as log:
                if self.deleted.is_set():
                    return
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._tell("Running", {"running": {"startedAt": _now()}})
            self._finish(*self._await())
        except (OSError, Refused, KeyError) as error:
            with self._log.open("a") as log:
                log.write(f"the pod cannot be started: {error!r}\n")
            self._finish(128, "StartError")
        finally:
            self.ended.set()

    def delete(self, grace: float) -> None:
        """SIGTERM to the first process, SIGKILL to all ``grace`` seconds later; then the server may forget the pod."""
        self.deleted.set()
        with self._lock:
            process = self._process
        if process is not None and not self.ended.is_set():
            if grace > 0:
                self._signal(signal.SIGTERM)
            if grace == 0 or not self.ended.wait(grace):
                self._signal(signal.SIGKILL)
                self.ended.wait(_POLL_SECONDS * 50)
        with contextlib.suppress(OSError):
            self._client.remove(self.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})

    def _command(self) -> list[str]:
        account = self._pod["spec"].get("serviceAccountName", "default")
        fields = {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self.uid,
            "status.podIP": self.ip,
            "status.hostIP": GATEWAY,
            "spec.nodeName": "local",
            "spec.serviceAccountName": account,
        }
        folder = self._sandbox.folder / "volumes"
        mounts = pod_volumes.mounts(self._pod, fields, folder, self._client, self.deleted)
        environment = dict(IMAGE_ENVIRONMENT)
        for entry in self._container.get("env", []):
            source = entry.get("valueFrom", {}).get("fieldRef")
            value = fields[source["fieldPath"]] if source else entry.get("value", "")
            environment[entry["name"]] = value
        # $(NAME) in arguments stands for a variable.
        words = [*self._container.get("command", ["/opt/entrypoint.sh"]), *self._container.get("args", [])]
        for name, value in environment.items():
            words = [word.replace(f"$({name})", value) for word in words]
        at = self._container.get("workingDir", "/opt/spark/work-dir")
        self._limit()
        return self._sandbox.command(words, environment, at, mounts)

    def _limit(self) -> None:
        group = self._sandbox.control_group
        if group is not None:
            group.mkdir()
            limit = self._container.get("resources", {}).get("limits", {}).get("memory")
            if limit is not None:
                (group / "memory.limit_in_bytes").write_text(str(amount(limit)))

    def _await(self) -> tuple[int, str]:
        """The container's exit code, and why it ended."""
        assert self._process is not None
        killed = False
        while (code := self._process.poll()) is None:
            if self._out_of_memory() and not killed:
                killed = True  # the kernel ends one process; today's kubelets end the container with it
                self._signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_SECONDS)
        code = code if code >= 0 else 128 - code
        reason = "OOMKilled" if self._out_of_memory() else "Error" if code else "Completed"
        return (137 if reason == "OOMKilled" else code), reason

    def _out_of_memory(self) -> bool:
        group = self._sandbox.control_group
        if group is None:
            return False
        words = (group / "memory.oom_control").read_text().split()
        return int(words[words.index("oom_kill") + 1]) > 0

    def _finish(self, code: int, reason: str) -> None:
        state = {"exitCode": code, "reason": reason, "startedAt": self._began, "finishedAt": _now()}
        self._tell("Failed" if code else "Succeeded", {"terminated": state})

    def _signal(self, number: int) -> None:
        """To the container's first process; SIGKILL to it ends all others as well."""
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), number)
        if number == signal.SIGKILL:
            self._process.kill()


def amount(text: str) -> int:
    """Bytes of a quantity such as 512Mi."""
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    return int(float(text.removesuffix(unit)) * _UNITS.get(unit, 1))


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
