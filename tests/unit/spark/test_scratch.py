"""Spark's temporary folder and what is put into it."""

import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest

from distributed_cls.errors import UserError
from distributed_cls.spark import scratch
from tests.patience import PATIENCE


def test_a_plain_run_folder_holds_the_scratch_folder(tmp_path: Path) -> None:
    assert scratch.make(tmp_path / "run_1-2=3+4") == tmp_path / "run_1-2=3+4" / ".spark"


@pytest.mark.parametrize(
    "name", ["run 1 (ü) 車", "Müller", "a,b", "a'b", 'a"b', "a$b", "a#1", "a%20b", "a;b", "a\\b", "{a}", "a:b", "a\nb"]
)
def test_another_one_has_it_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / name).mkdir()
    made = scratch.make(tmp_path / name)
    assert made.parent == tmp_path / "temporary" and made.is_dir()
    assert scratch.make(tmp_path / name) != made  # two runs do not share it
    assert list((tmp_path / name).iterdir()) == []


def test_a_temporary_folder_of_the_same_kind_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "with, comma"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    made = scratch.make(odd)
    made.rmdir()
    assert made.parent == Path("/tmp")
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    with pytest.raises(UserError, match=r"Received: TMPDIR=.*with, comma\. Set TMPDIR"):
        scratch.make(odd)


@pytest.mark.parametrize(("gpus", "addresses"), [("0", ["0"]), ("0\n1\n5", ["0", "1", "5"])])
def test_the_gpu_script_prints_what_spark_reads(tmp_path: Path, gpus: str, addresses: list[str]) -> None:
    scratch.fill(tmp_path)
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nprintf '{gpus}\\n'\n", encoding="utf-8")
    command.chmod(0o755)
    printed = subprocess.run(
        [tmp_path / "find_gpus.sh"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert json.loads(printed) == {"name": "gpu", "addresses": addresses}


def test_the_package_travels_whole_under_the_name_of_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    archive, again = scratch.package_zip(first), scratch.package_zip(second)
    assert archive.name == again.name and archive.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
    assert {"distributed_cls/__init__.py", "distributed_cls/barrier/agent.py"} < set(names)
    assert not any("__pycache__" in name for name in names)


def test_a_linked_spark_home_keeps_what_workers_write_out_of_the_real_one(tmp_path: Path) -> None:
    home, folder = tmp_path / "spark", tmp_path / "scratch"
    (home / "jars").mkdir(parents=True)
    (home / "jars" / "a.jar").touch()
    (home / "work").mkdir()
    folder.mkdir()
    linked = scratch.linked_home(home, folder)
    (linked / "work").mkdir()
    (linked / "work" / "app-1").touch()
    assert (linked / "jars" / "a.jar").exists() and list((home / "work").iterdir()) == []
    assert scratch.linked_home(home, folder) == linked and not (linked / "work").exists()
