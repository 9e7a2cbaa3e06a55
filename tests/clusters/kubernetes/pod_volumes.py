"""The volumes of a pod, as folders of this machine."""

import base64
import threading
import time
from pathlib import Path

from tests.clusters.kubernetes.api_client import ApiClient, Object, Refused
from tests.clusters.kubernetes.pod_root import Mount

_LATE_SECONDS = 60.0  # within which what a pod mounts is made: Spark makes a driver's ConfigMap after its pod
_KINDS = {"configMap": "configmaps", "secret": "secrets"}


def mounts(pod: Object, fields: dict[str, str], folder: Path, client: ApiClient, stop: threading.Event) -> list[Mount]:
    """What the pod's container mounts. ``fields``: what the downward API tells; ``folder``: for what is made here."""
    volumes = _Volumes(pod["metadata"], fields, client, stop)
    places = {volume["name"]: volumes.place(volume, folder / volume["name"]) for volume in pod["spec"]["volumes"]}
    return [
        Mount(places[mount["name"]] / mount.get("subPath", ""), mount["mountPath"], mount.get("readOnly", False))
        for mount in pod["spec"]["containers"][0].get("volumeMounts", [])
    ]


class _Volumes:
    def __init__(self, meta: Object, fields: dict[str, str], client: ApiClient, stop: threading.Event) -> None:
        self._meta, self._fields, self._client, self._stop = meta, fields, client, stop
        self._space = f"/api/v1/namespaces/{meta['namespace']}"

    def place(self, volume: Object, folder: Path) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            claim = self._awaited(
                f"{self._space}/persistentvolumeclaims/{volume['persistentVolumeClaim']['claimName']}"
            )
            bound = self._client.ask("GET", f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
            return Path(bound["spec"]["hostPath"]["path"])
        folder.mkdir(parents=True)  # an emptyDir stays so
        for source in volume.get("projected", {}).get("sources", [volume]):
            self._fill(source, folder)
        return folder

    def _fill(self, source: Object, folder: Path) -> None:
        for kind in _KINDS.keys() & source.keys():
            found = source[kind]
            data = self._awaited(f"{self._space}/{_KINDS[kind]}/{found.get('name') or found['secretName']}").get("data")
            for item in found.get("items") or [{"key": key, "path": key} for key in data or {}]:
                text = (data or {})[item["key"]].encode()
                (folder / item["path"]).write_bytes(base64.b64decode(text) if kind == "secret" else text)
        if "serviceAccountToken" in source:
            (folder / source["serviceAccountToken"]["path"]).write_text(self._token())
        for item in source.get("downwardAPI", {}).get("items", []):
            (folder / item["path"]).write_text(self._fields[item["fieldRef"]["fieldPath"]])

    def _token(self) -> str:
        """Of the pod's service account, bound to the pod."""
        pod = {"kind": "Pod", "apiVersion": "v1", "name": self._meta["name"], "uid": self._meta["uid"]}
        wanted = {"spec": {"expirationSeconds": 3600, "boundObjectRef": pod}}
        account = f"{self._space}/serviceaccounts/{self._fields['spec.serviceAccountName']}"
        return str(self._client.ask("POST", f"{account}/token", wanted)["status"]["token"])

    def _awaited(self, path: str) -> Object:
        until = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                return self._client.ask("GET", path)
            except Refused as error:
                if error.code != 404 or time.monotonic() > until or self._stop.wait(0.2):
                    raise
