"""deploy/: the real API server accepts the manifests, and a linter the Dockerfile."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.clusters.kubernetes.api_client import Refused
from tests.clusters.kubernetes.api_server import objects_of
from tests.clusters.kubernetes.kubernetes_cluster import MANIFESTS, Kubernetes

_FILES = sorted(MANIFESTS.glob("*.yaml"))


@pytest.mark.short
@pytest.mark.parametrize("manifest", _FILES, ids=lambda path: path.name)
def test_the_api_server_accepts(manifest: Path, kubernetes: Kubernetes) -> None:
    kubernetes.server.apply(*objects_of(manifest), dry_run=True)


@pytest.mark.short
def test_the_api_server_refuses_what_is_wrong(kubernetes: Kubernetes) -> None:
    """So that what it accepts means something."""
    job = next(item for item in objects_of(MANIFESTS / "driver.yaml") if item["kind"] == "Job")
    misspelt, impossible = copy.deepcopy(job), copy.deepcopy(job)
    misspelt["spec"]["backofLimit"] = 1
    impossible["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    for broken, why in ((misspelt, "backofLimit"), (impossible, "restartPolicy")):
        with pytest.raises(Refused, match=why):
            kubernetes.server.apply(broken, dry_run=True)


@pytest.mark.short
def test_the_role_allows_what_spark_does_and_no_more() -> None:
    role = next(item for item in objects_of(MANIFESTS / "access.yaml") if item["kind"] == "Role")
    (rule,) = role["rules"]
    assert set(rule["resources"]) == {"pods", "services", "configmaps", "persistentvolumeclaims"}
    assert "*" not in rule["verbs"]


@pytest.mark.short
def test_the_dockerfile_has_no_fault_that_a_linter_knows() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint: not installed (extra dev)")
    found = subprocess.run([hadolint, str(MANIFESTS.parent / "Dockerfile")], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


@pytest.mark.short
def test_the_image_of_the_manifests_is_the_one_of_the_cluster_file() -> None:
    root = MANIFESTS.parents[1]
    conf = yaml.safe_load((root / "conf" / "cluster" / "kubernetes.yaml").read_text())
    job = next(item for item in objects_of(MANIFESTS / "driver.yaml") if item["kind"] == "Job")
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    assert conf["spark"]["spark.kubernetes.container.image"] == image
    assert f"-t {image} " in (MANIFESTS.parent / "Dockerfile").read_text()
