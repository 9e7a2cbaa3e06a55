"""Kubernetes' API server, from its own source: built once, into the user's cache, and run in a network of its own."""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.clusters.kubernetes.api_client import APPLY_PATCH, ApiClient, Object, Refused
from tests.clusters.kubernetes.network_namespace import GATEWAY, NetworkNamespace
from tests.end_to_end.conftest import wait_for
from tests.patience import PATIENCE

_SOURCE = Path(__file__).parent / "apiserver"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "distributed_cls", "kubernetes")
_BUILD_SECONDS = 2400.0
MASTER = f"k8s://https://{GATEWAY}:443"


class Unavailable(Exception):
    """What the cluster needs and this machine does not have."""


def binary(build: bool) -> Path:
    """The API server's program, which is built when it is not there and ``build``. Raises Unavailable."""
    source = b"".join((_SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    program = _CACHE / hashlib.sha256(source).hexdigest()[:16] / "apiserver"
    if not program.exists():
        if not build:
            raise Unavailable("its API server is not built yet; make test-clusters builds it, once, in 5 to 15 minutes")
        _build(program)
    return program


def _build(program: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("its API server is built by Go, which is not installed")
    program.parent.mkdir(parents=True, exist_ok=True)
    made = program.with_name(f"apiserver.{os.getpid()}")
    # Two packages at a time, behind everything else that the machine does.
    command = ["nice", "-n", "15", "go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "."]
    try:
        subprocess.run(command, cwd=_SOURCE, capture_output=True, text=True, check=True, timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its API server was not built within {_BUILD_SECONDS:g} s") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"its API server cannot be built: {error.stderr.strip()[-300:]}") from None
    made.replace(program)


class ApiServer:
    """An API server whose files are in ``folder``, with an administrator's ``client``."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder, self.network = folder, NetworkNamespace()
        self._program, self._token = program, secrets.token_hex(16)
        self._log = folder / "apiserver.log"

    def start(self) -> None:
        """Return when the server answers."""
        self.folder.mkdir()
        self.folder.chmod(0o700)
        (self.folder / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        self._process = self.network.start([str(self._program), str(self.folder), GATEWAY], self._log)
        self.certificate = self.folder / "certificates" / "apiserver.crt"
        wait_for(lambda: self._alive() and self.certificate.exists(), "the API server's certificate")
        self.client = ApiClient(self.network, self._token, str(self.certificate))
        wait_for(lambda: self._alive() and self._answers(), "the API server")
        self.client.make("/api/v1/nodes", {"metadata": {"name": "local"}})

    def stop(self) -> None:
        """End the server, and with it its network; its 120 MB of files go as well."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        for name in ("etcd", "client:0", "peer:0"):
            place = self.folder / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)

    def kubeconfig(self, name: str, namespace: str, token: str | None = None) -> Path:
        """A client's settings, as kubectl and Spark read them."""
        cluster = {"server": f"https://{GATEWAY}:443", "certificate-authority": str(self.certificate)}
        settings = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token or self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": namespace}}],
        }
        path = self.folder / name
        path.write_text(json.dumps(settings))
        return path

    def apply(self, *objects: Object, dry_run: bool = False) -> None:
        """Server-side apply, strict, as ``kubectl apply --server-side [--dry-run=server]`` does it. Raises Refused."""
        query = f"fieldManager=tests&fieldValidation=Strict{'&dryRun=All' if dry_run else ''}"
        for item in objects:
            self.client.ask("PATCH", f"{_place(item)}?{query}", item, APPLY_PATCH)
            if item["kind"] == "Namespace" and not dry_run:
                self._furnish(item["metadata"]["name"])

    def _furnish(self, namespace: str) -> None:
        """What Kubernetes' controller manager puts into each namespace."""
        place = f"/api/v1/namespaces/{namespace}"
        root = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self.certificate.read_text()}}
        self.client.make(f"{place}/configmaps", root)
        self.client.make(f"{place}/serviceaccounts", {"metadata": {"name": "default"}})

    def _alive(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
        return True

    def _answers(self) -> bool:
        try:  # made by one of the last steps of its start
            self.client.ask("GET", "/api/v1/namespaces/default")
        except (OSError, Refused):
            return False
        return True


def objects_of(manifest: Path) -> list[Object]:
    """The objects of a YAML file."""
    return list(yaml.safe_load_all(manifest.read_text(encoding="utf-8")))


def _place(item: Object) -> str:
    """The path of an object."""
    group = "api" if "/" not in item["apiVersion"] else "apis"
    namespace, name = item["metadata"].get("namespace"), item["metadata"]["name"]
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"/{group}/{item['apiVersion']}/{within}{item['kind'].lower()}s/{name}"
