"""Clusters of the tests' own: ``make test-clusters`` runs them, ``make test`` what is marked ``short``."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clusters import hadoop
from tests.clusters.hadoop import SPARK_HOME, Hadoop
from tests.clusters.kubernetes import api_server, kubernetes_cluster
from tests.clusters.kubernetes.kubernetes_cluster import Kubernetes, KubernetesClient
from tests.end_to_end.conftest import ROOT, Ended, Launcher, processes_of, wait_for


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--clusters"):
        return
    for item in items:
        if "clusters" in item.path.parts and item.get_closest_marker("short") is None:
            item.add_marker(pytest.mark.skip(reason="make test-clusters runs it"))


@pytest.fixture(scope="session")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    """YARN with two nodes, and HDFS; started by the first test that wants it, for all of them."""
    try:
        with hadoop.running(tmp_path_factory.mktemp("hadoop")) as cluster:
            yield cluster
    except hadoop.Unavailable as why:
        pytest.skip(f"YARN and HDFS: {why}")


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Kubernetes]:
    """A real API server and a kubelet; started by the first test that wants them, for all of them."""
    build = bool(pytestconfig.getoption("--clusters"))
    folder, hidden = tmp_path_factory.mktemp("kubernetes"), tmp_path_factory.getbasetemp()
    try:
        with kubernetes_cluster.running(folder, hidden, build) as cluster:
            yield cluster
    except api_server.Unavailable as why:
        pytest.skip(f"Kubernetes: {why}")


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for prepared data sets, so that the digits are prepared once for all tests."""
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def launch_once(tmp_path_factory: pytest.TempPathFactory, datasets: Path) -> Callable[..., Ended]:
    """The launcher on a local master, for what a cluster is compared with."""
    return Launcher(tmp_path_factory.mktemp("module"), datasets)


class Client(Launcher):
    """A client of a YARN cluster: ``python -m launch`` as everywhere, and spark-submit."""

    def __init__(self, folder: Path, datasets: Path, cluster: Hadoop) -> None:
        super().__init__(folder, datasets, cluster.environment)

    def submit(self, mode: str, *arguments: str, conf: dict[str, str] | None = None) -> Ended:
        """``spark-submit --deploy-mode <mode> launch/__main__.py <arguments>``, run to its end."""
        runs = self.folder / f"submitted-{mode}"
        command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "yarn", "--deploy-mode", mode]
        if mode == "cluster":
            command += ["--archives", self._archive()]
        for key, value in (conf or {}).items():
            command += ["--conf", f"{key}={value}"]
        process = subprocess.Popen(
            [*command, str(ROOT / "launch" / "__main__.py"), f"hydra.run.dir={runs}", *arguments],
            cwd=self.folder,
            env={**self.environment, "PYSPARK_PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.end(process, runs)

    def _archive(self) -> str:
        command = [sys.executable, "-m", "launch", "--archive"]
        environment = {**self.environment, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture
def client(tmp_path: Path, datasets: Path, yarn: Hadoop) -> Iterator[Client]:
    yield Client(tmp_path, datasets, yarn)
    assert processes_of(tmp_path) == []


@pytest.fixture
def on_kubernetes(request: pytest.FixtureRequest, kubernetes: Kubernetes) -> Iterator[KubernetesClient]:
    """A client of the cluster, which must have no pods left when the test has ended."""
    found = KubernetesClient(f"run-{request.node.name[:40]}".replace("[", "-").replace("]", ""), kubernetes)
    yield found
    wait_for(lambda: not kubernetes.pods(), "the end of all pods")
    assert processes_of(found.folder) == []
