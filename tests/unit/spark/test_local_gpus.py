"""GPUs of this machine are counted before Spark starts."""

from pathlib import Path

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import local_gpus
from distributed_cls.spark.session import Session

MASTER = "local-cluster[1,8,1024]"


@pytest.fixture(autouse=True)
def no_gpu_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _nvidia_smi(folder: Path, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (None, "nvidia-smi is not installed, so 0."),
        ("exit 9", "nvidia-smi fails, so 0."),
        ("echo 'GPU 0: A'; echo '  MIG 1g'; echo 'GPU 1: A'", "nvidia-smi lists 2."),
    ],
)
def test_missing_gpus_are_refused_before_spark_starts(tmp_path: Path, script: str | None, found: str) -> None:
    if script is not None:
        _nvidia_smi(tmp_path, script)
    cluster = ClusterConfig(name="gpu4", master=MASTER, workers=4, gpus_per_worker=1)
    with pytest.raises(UserError) as raised:
        Session(cluster, tmp_path / "run").spark  # noqa: B018 - starting it is the point
    assert str(raised.value).startswith("Expected 4 GPU(s) on this machine (cluster=gpu4: 4 worker(s) with 1 each).")
    assert found in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_hidden_gpus_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nvidia_smi(tmp_path, "echo 'GPU 0: A'; echo 'GPU 1: A'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=1 leaves 1"):
        local_gpus.check(ClusterConfig(workers=2, gpus_per_worker=1), MASTER)
    local_gpus.check(ClusterConfig(workers=1, gpus_per_worker=1), MASTER)


@pytest.mark.parametrize("master", ["local[8]", "local-cluster[2,4,1024]"])
def test_a_master_that_would_not_give_each_rank_its_own_gpu_is_refused(master: str) -> None:
    with pytest.raises(UserError, match=r"Received: local.*\. Set cluster\.master=local-cluster\[1,CORES"):
        local_gpus.check(ClusterConfig(workers=2, gpus_per_worker=1), master)


@pytest.mark.parametrize(("master", "gpus"), [("spark://node:7077", 1), ("yarn", 1), (None, 1), ("local[2]", 0)])
def test_other_masters_are_their_administrators_business(master: str | None, gpus: int) -> None:
    local_gpus.check(ClusterConfig(workers=2, gpus_per_worker=gpus), master)
