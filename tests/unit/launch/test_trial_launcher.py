"""What Hydra gets for trials that are not run."""

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.summary import Summary
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import UserError
from launch import trial_launcher
from launch.hydra_trials import HydraTrials
from launch.trial import Launcher
from launch.trial_launcher import TrialLauncher


@pytest.mark.parametrize("status", [TrialStatus.DONE, TrialStatus.STOPPED])
def test_trials_that_ended_give_their_accuracy_and_those_beyond_the_time_nothing(
    tmp_path: Path, status: TrialStatus
) -> None:
    home = Launcher()
    home.sweep_in(tmp_path).put(TrialRow(0, {"train.seed": "1"}, "", status, 0.75))
    trial_launcher.register(home)
    launcher = TrialLauncher()
    launcher.config = OmegaConf.create(
        {"sweep": {"time_budget": 1e-9, "parallel": "1"}, "hydra": {"sweep": {"dir": str(tmp_path)}}}
    )
    returned = launcher.launch([["train.seed=2"], ["train.seed=1"], ["train.seed=1"]], 0)
    assert [job.return_value for job in returned] == [None, 0.75, None]
    assert home.sweep is not None and home.sweep.left_out == 2 and len(home.sweep.rows) == 1
    assert OmegaConf.load(tmp_path / "multirun.yaml") == launcher.config


@pytest.mark.parametrize("of_process", [{"chdir": True, "env_set": {}}, {"chdir": None, "env_set": {"A": "b"}}])
def test_trials_side_by_side_do_not_change_the_process_for_one_of_them(of_process: dict[str, Any]) -> None:
    config = OmegaConf.create({"sweep": {"parallel": "auto"}, "hydra": {"job": of_process}})
    context: Any = None
    with pytest.raises(UserError, match=r"no hydra\.job\.chdir.*Received: sweep\.parallel=auto"):
        HydraTrials(Launcher(), config, context)


def test_the_best_trial_is_asked_for_again_with_other_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Launcher()
    sweep = home.sweep_in(tmp_path)
    (tmp_path / "1").mkdir()
    summaries.write(tmp_path / "1", Summary("train", {}, {"train": {"seed": 7}}))
    sweep.put(TrialRow(0, {"model": "dense"}, str(tmp_path / "0"), val_accuracy=0.5))
    sweep.put(TrialRow(1, {"model": "cnn"}, str(tmp_path / "1"), val_accuracy=0.75))
    repeated = TrialRow(2, {"model": "cnn", "train.seed": "8"}, "", val_accuracy=0.9, refit_of=1)
    sweep.put(repeated)  # by the command before this one; better than its own, and not the best trial
    trial_launcher.register(home)
    launcher = TrialLauncher()
    settings = {"time_budget": None, "refit": 3, "parallel": "1"}
    launcher.config = OmegaConf.create({"sweep": settings, "hydra": {"sweep": {"dir": str(tmp_path)}}})
    ran = []

    def note(self: BasicLauncher, overrides: list[list[str]], number: int) -> list[JobReturn]:
        ran.append((number, overrides[0], sweep.begun(number, overrides[0], tmp_path / str(number)).refit_of))
        return [JobReturn()]

    monkeypatch.setattr(BasicLauncher, "launch", note)
    launcher.launch([[f"model={model}", "sweep.stop=asha", "tracking=mlflow"] for model in ("dense", "cnn")], 0)
    launcher.refit()
    more = ["tracking=mlflow", "sweep.stop=null"]
    assert ran == [
        (3, ["model=cnn", "train.seed=9", *more], 1),
        (4, ["model=cnn", "train.seed=10", *more], 1),
    ]
