"""An archive of Spark's classes is found again exactly while Java and Spark are those that it was made of."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distributed_cls.spark import class_archive


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """The folders of a Java and of a Spark, and an archive that has been made of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    java, spark = tmp_path / "java", tmp_path / "spark"
    java.mkdir()
    (java / "release").write_text("JAVA_VERSION=17.0.15")
    (spark / "jars").mkdir(parents=True)
    for name in ("core.jar", "sql.jar"):
        (spark / "jars" / name).write_bytes(b"classes")
    (tmp_path / "made.jsa").write_bytes(b"an archive")
    return java, spark, class_archive.keep(tmp_path / "made.jsa", java, spark)


def _another_java(java: Path, spark: Path) -> None:
    (java / "release").write_text("JAVA_VERSION=21.0.1")


def _another_jar(java: Path, spark: Path) -> None:
    (spark / "jars" / "sql.jar").write_bytes(b"other classes")


def _installed_again(java: Path, spark: Path) -> None:
    os.utime(spark / "jars" / "core.jar", ns=(1, 1))  # Java compares it too


def _one_more_jar(java: Path, spark: Path) -> None:
    (spark / "jars" / "more.jar").touch()


@pytest.mark.parametrize("change", [_another_java, _another_jar, _installed_again, _one_more_jar])
def test_an_archive_is_of_one_java_and_of_every_jar(
    machine: tuple[Path, Path, Path], change: Callable[[Path, Path], None]
) -> None:
    java, spark, archive = machine
    assert class_archive.find(java, spark) == archive and archive.read_bytes() == b"an archive"
    change(java, spark)
    assert class_archive.find(java, spark) is None
    class_archive.remove(spark)
    assert not archive.exists(), "it is of the same Spark, and fits no more"


@pytest.mark.parametrize("content", [b"", b"an arch", b"an archive and more"])
def test_an_archive_that_is_not_whole_is_none(machine: tuple[Path, Path, Path], content: bytes) -> None:
    """Java would crash."""
    java, spark, archive = machine
    archive.write_bytes(content)
    assert class_archive.find(java, spark) is None


def test_another_spark_has_an_archive_of_its_own(machine: tuple[Path, Path, Path], tmp_path: Path) -> None:
    java, spark, archive = machine
    spark.rename(tmp_path / "moved")
    assert class_archive.find(java, tmp_path / "moved") is None
    class_archive.remove(tmp_path / "moved")
    assert archive.exists()
