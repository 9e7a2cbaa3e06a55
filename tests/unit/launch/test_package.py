"""What pip installs: every module and YAML file, the license, the command, and a main file for spark-submit."""

import configparser
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import distributed_cls

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_folder_of_code_and_of_choices_is_a_package(setup: configparser.ConfigParser) -> None:
    code = [path for name in ("distributed_cls", "launch") for path in (ROOT / name).rglob("*.py")]
    wanted = {".".join(path.parent.relative_to(ROOT).parts) for path in code}
    choices = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "conf").rglob("*.yaml")}
    assert wanted | {f"launch.{name}" for name in choices} == set(setup["options"]["packages"].split())
    data = [
        path for path in (ROOT / "distributed_cls").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    packed = {pattern.strip().lstrip("*") for pattern in setup["options.package_data"]["*"].split(",")}
    assert {path.suffix for path in data} - {".py"} <= packed


def test_the_license_is_there_in_full(setup: configparser.ConfigParser) -> None:
    text = (ROOT / setup["metadata"]["license_files"]).read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_command_is_the_launcher(setup: configparser.ConfigParser) -> None:
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert name == "distributed-cls" and callable(getattr(importlib.import_module(module), function))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as pip lays them out, with conf/ inside launch/."""
    site = tmp_path_factory.mktemp("installed") / "site"
    leave_out = shutil.ignore_patterns("__pycache__")
    for name, place in (("distributed_cls", "distributed_cls"), ("launch", "launch"), ("conf", "launch/conf")):
        shutil.copytree(ROOT / name, site / place, ignore=leave_out)
    return site


def _output(*command: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_spark_submit_finds_a_main_file_that_finds_the_choices(installed: Path) -> None:
    """spark-submit runs one file by its path, from any folder and without a checkout."""
    main = _output("-m", "launch", "--main-file", folder=installed)
    assert main == str(installed / "launch" / "__main__.py")
    assert _output(main, "--version", folder=installed.parent) == f"distributed_cls {distributed_cls.__version__}"
    composed = _output(main, "model=dense", "--cfg", "job", folder=installed.parent)
    assert "name: dense" in composed and "source: digits" in composed


@pytest.mark.parametrize("place", ["checkout", "installed"])
def test_a_driver_on_a_cluster_runs_from_the_archive_beside_its_main_file(
    place: str, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As YARN lays them out: a copy of the main file, and the archive unpacked under its own name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = Path(_output("-m", "launch", "--archive", folder=ROOT if place == "checkout" else installed))
    assert archive.parent == tmp_path / "cache" / "distributed_cls"
    container = tmp_path / "container"
    shutil.unpack_archive(archive, container / archive.name)
    shutil.copy(ROOT / "launch" / "__main__.py", container)
    # What is installed in the environment of the tests must not stand in for the archive.
    program = (
        "import runpy, sys; sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in str(finder)]; "
        "sys.argv = ['__main__.py', 'model=dense', '--cfg', 'job']; runpy.run_path('__main__.py', run_name='__main__')"
    )
    composed = _output("-P", "-c", program, folder=container)
    assert "name: dense" in composed and "source: digits" in composed
    shutil.rmtree(container / archive.name)
    alone = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=container, capture_output=True, text=True, check=False
    )
    assert alone.returncode == 1 and '--archives "$(distributed-cls --archive)"' in alone.stderr
    assert "Traceback" not in alone.stderr
