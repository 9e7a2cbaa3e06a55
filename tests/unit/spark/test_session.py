"""What Spark is told, without starting it."""

import os
from pathlib import Path

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import session
from distributed_cls.spark.master import is_local, on_this_machine, with_slots
from distributed_cls.spark.session import LOCAL_JAVA, Session, properties


def test_a_local_master_has_a_count_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert with_slots("local[*]") == with_slots("local") == "local[6]"
    assert with_slots("local[3]") == "local[3]"
    assert with_slots("spark://node:7077") == "spark://node:7077"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert with_slots("local[*]") == "local[2]"  # one core: two ranks share it


@pytest.mark.parametrize(
    ("master", "local", "here"),
    [
        ("local", True, True),
        ("local[2]", True, True),
        ("local[2,3]", True, True),
        ("local-cluster[1,2,1024]", False, True),
        ("localhost", False, False),
        ("spark://local:7077", False, False),
        ("yarn", False, False),
        (None, False, False),
    ],
)
def test_a_master_on_this_machine_is_kept_on_loopback_and_its_java_small(
    tmp_path: Path, master: str | None, local: bool, here: bool
) -> None:
    assert (is_local(master), on_this_machine(master)) == (local, here)
    if master == "localhost":  # no master that a configuration takes
        return
    found = properties(ClusterConfig(master=master), tmp_path)
    assert (found.get("spark.driver.host") == "127.0.0.1") is here
    assert (LOCAL_JAVA in found["spark.driver.extraJavaOptions"]) is here


def test_the_submitted_master_decides_what_follows_from_it(tmp_path: Path) -> None:
    found = properties(ClusterConfig(master="local[2]"), tmp_path, submitted_master="spark://node:7077")
    assert found["spark.master"] == "spark://node:7077"
    assert "spark.driver.host" not in found and "spark.ui.enabled" not in found
    assert LOCAL_JAVA not in found["spark.driver.extraJavaOptions"]


def test_barrier_stages_get_quick_answers(tmp_path: Path) -> None:
    found = properties(ClusterConfig(rendezvous_timeout=45), tmp_path)
    assert found["spark.barrier.sync.timeout"] == "45"
    assert found["spark.dynamicAllocation.enabled"] == "false"
    assert str(tmp_path) in found["spark.driver.extraJavaOptions"]


def test_the_users_own_properties_win(tmp_path: Path) -> None:
    given = {"spark.dynamicAllocation.enabled": "true", "spark.executor.instances": 3}
    found = properties(ClusterConfig(spark=given), tmp_path)  # type: ignore[arg-type]
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert found["spark.executor.instances"] == "3"


def test_gpus_are_discovered_here_and_left_to_the_administrator_elsewhere(tmp_path: Path) -> None:
    here = properties(ClusterConfig(master="local-cluster[1,4,1024]", workers=3, gpus_per_worker=2), tmp_path)
    assert here["spark.task.resource.gpu.amount"] == "2"
    assert here["spark.worker.resource.gpu.amount"] == here["spark.executor.resource.gpu.amount"] == "6"
    assert os.access(here["spark.worker.resource.gpu.discoveryScript"], os.X_OK)
    there = properties(ClusterConfig(master="spark://node:7077", workers=3, gpus_per_worker=2), tmp_path)
    assert {key for key in there if "gpu" in key} == {"spark.task.resource.gpu.amount"}


@pytest.mark.parametrize(
    ("nvidia_smi", "found"),
    [
        (None, "nvidia-smi is not installed, so 0."),
        ("exit 9", "nvidia-smi fails, so 0."),
        ("echo 'GPU 0: A'; echo '  MIG 1g'; echo 'GPU 1: A'", "nvidia-smi lists 2."),
    ],
)
def test_missing_gpus_are_refused_before_spark_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nvidia_smi: str | None, found: str
) -> None:
    if nvidia_smi is not None:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{nvidia_smi}\n", encoding="utf-8")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cluster = ClusterConfig(name="gpu4", master="local-cluster[1,8,1024]", workers=4, gpus_per_worker=1)
    with pytest.raises(UserError) as raised:
        Session(cluster, tmp_path / "run").spark  # noqa: B018 - starting it is the point
    assert str(raised.value).startswith("Expected 4 GPU(s) on this machine (cluster=gpu4: 4 worker(s) with 1 each).")
    assert found in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_hidden_gpus_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: A'; echo 'GPU 1: A'\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    cluster = ClusterConfig(name="pair", master="local-cluster[1,2,1024]", workers=2, gpus_per_worker=1)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=1 leaves 1"):
        Session(cluster, tmp_path / "run").spark  # noqa: B018 - starting it is the point


def test_trials_share_a_session_that_has_the_same_properties(tmp_path: Path) -> None:
    one = Session(ClusterConfig(workers=2), tmp_path)
    assert one.fits(ClusterConfig(workers=4, stall_timeout=5))
    for other in (
        ClusterConfig(master="local[7]"),
        ClusterConfig(spark={"spark.executor.memory": "4g"}),
        ClusterConfig(python="/opt/python"),
        ClusterConfig(rendezvous_timeout=5),
    ):
        assert not one.fits(other)
    # On this machine the number of workers decides how many GPUs Spark is told of.
    gpus = {"master": "local-cluster[1,4,1024]", "gpus_per_worker": 1}
    two = Session(ClusterConfig(workers=2, **gpus), tmp_path)  # type: ignore[arg-type]
    assert two.fits(ClusterConfig(workers=2, **gpus)) and not two.fits(ClusterConfig(workers=4, **gpus))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_a_session_sets_in_the_environment_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "10.0.0.7")
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    one = Session(ClusterConfig(), tmp_path)
    one._set({"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": "/scratch"})
    one._set({"SPARK_LOCAL_IP": "127.0.0.2"})
    assert os.environ["SPARK_LOCAL_IP"] == "127.0.0.2"
    one.stop()
    assert os.environ["SPARK_LOCAL_IP"] == "10.0.0.7" and "SPARK_LOCAL_DIRS" not in os.environ


def test_another_sparks_home_is_not_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import pyspark

    own = str(Path(pyspark.__file__).parent)
    for given, warned in (("/opt/old-spark", True), (own, False), (None, False)):
        caplog.clear()
        monkeypatch.setenv("SPARK_HOME", given) if given else monkeypatch.delenv("SPARK_HOME")
        assert session._spark_home() == own
        assert ("SPARK_HOME=/opt/old-spark is not used" in caplog.text) is warned


def test_the_package_travels_whole(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(session._package_zip(tmp_path)) as archive:
        names = archive.namelist()
    assert {"distributed_cls/__init__.py", "distributed_cls/barrier/agent.py"} < set(names)
    assert not any("__pycache__" in name for name in names)
