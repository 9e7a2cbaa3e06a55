"""``make clean`` and ``make clean-runs``: what they remove and what stays."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(_MAKEFILE, tmp_path)
    for folder in (
        ".venv/bin",
        "build",
        "pkg/__pycache__",
        ".mypy_cache",
        "runs/one/model/__pycache__",
        "datasets/digits",
    ):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def _make(folder: Path, *targets: str, answer: str = "") -> str:
    # The suite itself is run by make, which tells its children so.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(
        ["make", *targets], cwd=folder, env=alone, input=answer, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_clean_removes_what_was_built_and_nothing_else(checkout: Path) -> None:
    _make(checkout, "clean")
    assert sorted(path.name for path in checkout.iterdir()) == ["Makefile", "datasets", "pkg", "runs"]
    assert not (checkout / "pkg" / "__pycache__").exists()
    assert (checkout / "runs" / "one" / "model" / "__pycache__").is_dir()


@pytest.mark.parametrize(("answer", "stays"), [("", True), ("n\n", True), ("yes\n", True), ("y\n", False)])
def test_runs_are_removed_only_after_a_y(checkout: Path, answer: str, stays: bool) -> None:
    said = _make(checkout, "clean-runs", answer=answer)
    assert "every trained model" in said and ("Nothing was removed." in said) == stays
    assert (checkout / "runs").is_dir() == (checkout / "datasets").is_dir() == stays


def test_make_alone_says_what_to_do_first_and_what_it_costs(checkout: Path) -> None:
    said = _make(checkout)
    assert said.startswith("Begin with make run.") and "4 GB" in said
    for target in ("setup", "run", "test", "lint", "format", "bench", "test-clusters", "clean", "clean-runs"):
        assert f"make {target} " in said, target
