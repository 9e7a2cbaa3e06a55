"""``resume=``: a command line becomes that of the run, in its folder."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.errors import UserError
from launch import schema
from launch.composition import compose
from launch.resume import command_for, expanded


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder as Hydra leaves it; the working folder is the one that it was started in."""
    folder = tmp_path / "runs" / "it's [1] \\"
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(
        OmegaConf.create(["model=dense", "train.epochs=3", "+cluster.spark={a.b:1}"]),
        folder / ".hydra" / "overrides.yaml",
    )
    OmegaConf.save(OmegaConf.create({"hydra": {"runtime": {"cwd": str(tmp_path)}}}), folder / ".hydra" / "hydra.yaml")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_settings_of_the_run_come_first_and_those_given_now_replace_them(run: Path) -> None:
    given = expanded([f"resume={run.relative_to(Path.cwd())}", "train.epochs=9", "--json"])
    assert given[:2] == ["model=dense", "+cluster.spark={a.b:1}"] and given[3:] == ["train.epochs=9", "--json"]
    schema.register()
    composed, folder = compose([word for word in given if "=" in word])
    config = schema.to_config(composed)
    assert folder == run  # whatever characters it has
    assert (config.model.name, config.train.epochs) == ("dense", 9)


def test_without_it_nothing_changes() -> None:
    assert expanded(["model=cnn", "-m"]) == ["model=cnn", "-m"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resume="], "Expected one folder. Received: resume=."),
        (["resume=a", "resume=b"], "Received: resume=a resume=b."),
        (["resume=absent"], "absent without .hydra/overrides.yaml"),
        (["-m", "resume=runs"], "Leave -m out"),
        (["-m", "resume=sweep", "hydra.sweep.dir=runs/2"], "Leave that out"),
        (["resume=runs", "hydra.run.dir=runs/2"], "Leave that out"),
        (["resume=sweep"], "a sweep. Add -m to go on with all of it, or set resume=sweep/0"),
    ],
)
def test_what_is_no_run_is_refused(run: Path, arguments: list[str], expected: str) -> None:
    Path("sweep").mkdir()
    Path("sweep/multirun.yaml").touch()
    with pytest.raises(UserError) as raised:
        expanded(arguments)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_another_working_folder_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Path.cwd()
    monkeypatch.chdir(run)
    with pytest.raises(UserError, match=r"cd ") as raised:
        expanded([f"resume={run}"])
    assert str(started) in str(raised.value)


def test_a_sweep_goes_on_with_its_command_and_other_values_for_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    overrides = {
        "hydra": ["hydra.sweep.dir=runs/other", "hydra/sweeper=optuna", "hydra.mode=MULTIRUN"],
        "task": ["model=dense,cnn", "train.learning_rate=1e-2,1e-3"],
    }
    noted = {"hydra": {"runtime": {"cwd": str(tmp_path)}, "overrides": overrides}}
    OmegaConf.save(OmegaConf.create(noted), folder / "multirun.yaml")
    given = expanded(["-m", "resume=runs/sweep", "train.learning_rate=1e-4"])
    kept = ["hydra/sweeper=optuna", "model=dense,cnn", f"hydra.sweep.dir='{folder}'"]
    assert given == ["-m", *kept, "train.learning_rate=1e-4"]
    parsed, unknown = get_args_parser().parse_known_args(given)  # Hydra's own
    assert parsed.multirun and parsed.overrides == given[1:] and not unknown
    assert expanded(["resume=runs/sweep", "--multirun"])[-1] == "--multirun"
    command = command_for(folder)
    assert command is not None and shlex.split(command)[3:] == ["-m", "resume=runs/sweep"]


def test_the_command_that_goes_on_is_named_once_there_is_a_checkpoint(run: Path) -> None:
    assert command_for(run) is None
    checkpoint.write(run / "checkpoints" / "last.npz", {"w": np.zeros(1)}, Position())
    command = command_for(run)
    assert command is not None
    assert shlex.split(command) == ["python", "-m", "launch", f"resume={run.relative_to(Path.cwd())}"]
