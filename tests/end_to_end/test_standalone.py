"""A real standalone cluster: a master and two workers, by python -m launch and by spark-submit."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.end_to_end import standalone
from tests.end_to_end.conftest import ROOT, Ended, Launcher
from tests.end_to_end.standalone import SPARK_HOME, environment


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a master with two registered workers of one core each."""
    with standalone.running(tmp_path_factory.mktemp("standalone")) as cluster:
        cluster.add_worker()
        cluster.add_worker()
        yield cluster.url


# A data set of this cluster's own: nobody else's tests use the salt, and these prepare it once.
SALT = "data.split_salt=standalone"


@pytest.fixture(scope="module")
def trained(launch_once: Callable[..., Ended], master: str) -> Ended:
    """Prepared, trained and exported by the executors of the cluster."""
    return launch_once("cluster=standalone", f"cluster.master={master}", "model=dense", "train.epochs=2", SALT)


def test_by_the_launcher(trained: Ended, master: str) -> None:
    assert trained.summary["workers"] == 2
    assert not trained.summary["dataset"]["reused"]
    counts = trained.summary["dataset"]["counts"]["test"]
    assert trained.summary["test"]["examples"] == sum(counts.values()) > 260
    assert master in trained.output


def test_executors_get_the_model_and_answer_as_the_evaluation(trained: Ended, launch: Launcher, master: str) -> None:
    assert trained.folder is not None
    table = pq.read_table(trained.folder / "predictions.parquet").to_pylist()
    digits = pq.read_table(table[0]["path"].split("#")[0], columns=["image"])["image"]
    source = launch.folder / "digits"
    source.mkdir()
    judged = {}
    for row in table[:40]:
        number = int(row["path"].split("#")[1])
        (source / f"{number}.png").write_bytes(digits[number].as_py())
        judged[str(source / f"{number}.png")] = row
    ended = launch(
        "job=predict",
        "cluster=standalone",
        f"cluster.master={master}",
        f"model_dir={trained.folder}",
        f"data.path={source}",
        f"output={launch.folder / 'out'}",
        "+cluster.spark={spark.cores.max:1}",  # one executor, of another process than the driver
    )
    assert ended.code == 0, ended.output
    rows = pq.read_table(launch.folder / "out").to_pylist()
    assert sorted(row["path"] for row in rows) == sorted(judged)
    for row in rows:
        assert row["error"] is None
        assert row["label"] == judged[row["path"]]["label"]
        shares = [guess["confidence"] for guess in row["top"]]
        assert shares == pytest.approx([guess["confidence"] for guess in judged[row["path"]]["top"]], abs=1e-5)


@pytest.mark.usefixtures("trained")
def test_by_spark_submit(launch: Launcher, master: str, datasets: Path) -> None:
    folder = launch.folder / "submitted"
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"),
        "--master",
        master,
        "--conf",
        "spark.log.level=WARN",
    ]
    variables = {
        **environment(),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    arguments = [
        "job=train",
        "model=dense",
        "train.epochs=2",
        SALT,
        f"dataset_root={datasets}",
        f"hydra.run.dir={folder}",
    ]
    process = subprocess.Popen(
        [*command, str(ROOT / "launch" / "__main__.py"), *arguments],
        cwd=launch.folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ended = launch.end(process, folder)
    assert ended.summary["train"]["epochs"] == 2
    assert ended.summary["dataset"]["reused"]
    assert master in ended.output


def test_the_doctor_finds_a_cluster_that_can_train(launch: Launcher, master: str) -> None:
    ended = launch("--json", "job=doctor", "cluster=standalone", f"cluster.master={master}")
    assert ended.code == 0, ended.output
    checks = {row["check"]: row for row in ended.json("doctor.json")["checks"]}
    assert {row["grade"] for row in checks.values()} <= {"ok", "warning"}, checks
    assert checks["slots"]["found"] == "2 for as many ranks"
    assert checks["network"]["found"].startswith("2 of 2 ways open")
    assert '"check": "all-reduce"' in ended.output
