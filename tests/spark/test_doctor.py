"""``job=doctor`` on a real barrier stage: real ports, folders and a real all-reduce of two processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from distributed_cls.barrier import doctor
from distributed_cls.config import ClusterConfig, Config, TrainConfig
from distributed_cls.contracts import doctor_report
from distributed_cls.contracts.doctor_report import Grade, Verdict
from tests.patience import PATIENCE
from tests.spark.prepare_support import small_spark


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with small_spark() as session:
        yield session


def examined(spark: SparkSession, root: Path, folder: Path, workers: int = 2) -> dict[str, Verdict]:
    """The verdicts by check, which doctor.json holds as well."""
    folder.mkdir()
    cluster = ClusterConfig(workers=workers, slot_timeout=5, start_timeout=PATIENCE, rendezvous_timeout=PATIENCE)
    found = doctor.check(
        spark, Config(cluster=cluster, dataset_root=str(root), train=TrainConfig(batch_size=120)), folder
    )
    assert doctor_report.read(folder) == found
    return {verdict.check: verdict for verdict in found}


def test_this_machine_can_train(spark: SparkSession, tmp_path: Path) -> None:
    found = examined(spark, tmp_path / "datasets", tmp_path / "run")
    grades = {name: verdict.grade for name, verdict in found.items() if verdict.grade is not Grade.OK}
    assert set(grades.values()) <= {Grade.WARNING}, found  # a busy machine's sum may be slow
    assert "2 of 2 ways open" in found["network"].found
    assert "MiB/s" in found["all-reduce"].found
    assert f"dataset_root={tmp_path / 'datasets'}" in found["folders"].found
    assert list(tmp_path.glob("**/.doctor-*")) == []
    doctor.refuse_faults(list(found.values()))


def test_slots_that_are_missing_are_a_verdict(spark: SparkSession, tmp_path: Path) -> None:
    found = examined(spark, tmp_path / "datasets", tmp_path / "run", workers=3)
    verdict = found["slots and properties"]
    assert verdict.grade is Grade.FAULT and "Received: 2" in verdict.found
    assert verdict.remedy == "Set cluster.workers=2, or give the cluster more cores."
    assert found["ranks"].grade is Grade.UNKNOWN


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_verdict(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir(mode=0o500)
    assert examined(spark, tmp_path / "datasets", tmp_path / "run")["folders"].grade is Grade.FAULT


def test_a_place_that_is_no_folder_is_a_verdict(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "datasets").write_bytes(b"")
    found = examined(spark, tmp_path / "datasets", tmp_path / "run")["folders"]
    assert found.grade is Grade.FAULT and str(tmp_path / "datasets") in found.found
