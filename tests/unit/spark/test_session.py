"""What Spark is told, without starting it."""

import os
from pathlib import Path

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import session
from distributed_cls.spark.session import LOCAL_JAVA, Session, is_local, local_master, properties, same_session


def test_a_local_master_has_a_count_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert local_master("local[*]") == local_master("local") == "local[6]"
    assert local_master("local[3]") == "local[3]"
    assert local_master("spark://node:7077") == "spark://node:7077"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert local_master("local[*]") == "local[2]"  # one core: two ranks share it


@pytest.mark.parametrize(
    ("master", "local"), [("local[2]", True), ("local-cluster[1,2,1024]", True), ("spark://x", False), (None, False)]
)
def test_a_local_master_is_kept_on_loopback_and_its_java_small(tmp_path: Path, master: str | None, local: bool) -> None:
    found = properties(ClusterConfig(master=master), tmp_path)
    assert is_local(master) is local
    assert (found.get("spark.driver.host") == "127.0.0.1") is local
    assert (LOCAL_JAVA in found["spark.driver.extraJavaOptions"]) is local
    assert found.get("spark.master") == master


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


def test_trials_share_a_session_only_on_the_same_cluster() -> None:
    one = ClusterConfig(workers=2)
    assert same_session(one, ClusterConfig(workers=4, stall_timeout=5))
    assert not same_session(one, ClusterConfig(master="local[7]"))
    assert not same_session(one, ClusterConfig(spark={"spark.executor.memory": "4g"}))


def test_the_package_travels_whole(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(session._package_zip(tmp_path)) as archive:
        names = archive.namelist()
    assert {"distributed_cls/__init__.py", "distributed_cls/barrier/agent.py"} < set(names)
    assert not any("__pycache__" in name for name in names)
