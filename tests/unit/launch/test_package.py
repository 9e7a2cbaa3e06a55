"""What pip installs: every module and YAML file, the license, the command, and a main file for spark-submit."""

import configparser
import importlib
import os
import shutil
import subprocess
import sys
import zipfile
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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """What pip gets, built from a copy: the build writes beside its sources. ``build`` calls no network so."""
    for needed in ("build", "setuptools", "wheel"):
        pytest.importorskip(needed)
    source = tmp_path_factory.mktemp("wheel") / "source"
    for name in ("distributed_cls", "launch", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = ["build", "--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", str(source.parent)]
    _output("-P", "-m", *command, folder=source)
    (built,) = source.parent.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_all_files_the_license_and_the_command(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {}
    for name, place in (("distributed_cls", "distributed_cls"), ("launch", "launch"), ("conf", "launch/conf")):
        files = [path for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        wanted |= {f"{place}/{path.relative_to(ROOT / name).as_posix()}": path for path in files}
    assert packed == set(wanted)
    assert {".py", ".yaml", ".html", ".css", ".js", ".svg"} <= {Path(name).suffix for name in packed}
    for name, path in wanted.items():
        assert wheel.read(name) == path.read_bytes(), name
    about = {name.rpartition("/")[2]: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert about["LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")
    commands = configparser.ConfigParser()
    commands.read_string(about["entry_points.txt"])
    assert dict(commands["console_scripts"]) == {"distributed-cls": "launch.__main__:main"}
    assert f"Version: {distributed_cls.__version__}" in about["METADATA"].splitlines()


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
