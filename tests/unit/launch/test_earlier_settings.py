"""What a run folder says of its run, after a command in it that was refused."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from launch import earlier_settings

SETTINGS = Path(".hydra", "overrides.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder, in which a further command has just replaced the settings."""
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / SETTINGS).write_text("- train.epochs=3\n")
    (folder / "status.json").write_text("{}")
    (folder / "checkpoints").mkdir()
    os.utime(folder / "checkpoints", (1, 1))
    earlier_settings.NotesEarlierSettings().on_run_start(OmegaConf.create({"hydra": {"run": {"dir": str(folder)}}}))
    (folder / SETTINGS).write_text("- train.epochs=-1\n")
    return folder


def test_its_settings_are_put_back(run: Path) -> None:
    (run / "launch.log").write_text("refused")
    earlier_settings.put_back()
    assert (run / SETTINGS).read_text() == "- train.epochs=3\n"


@pytest.mark.parametrize("appears", ["checkpoints/last.npz", "logs"])
def test_a_command_that_has_worked_keeps_its_own(run: Path, appears: str) -> None:
    (run / appears).touch()
    earlier_settings.put_back()
    assert (run / SETTINGS).read_text() == "- train.epochs=-1\n"


def test_a_folder_that_was_removed_stays_away(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))
    earlier_settings.put_back()
    assert not run.exists()
