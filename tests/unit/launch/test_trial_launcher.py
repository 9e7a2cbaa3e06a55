"""What Hydra gets for trials that are not run."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from launch import trial_launcher
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
    launcher.config = OmegaConf.create({"sweep": {"time_budget": 1e-9}, "hydra": {"sweep": {"dir": str(tmp_path)}}})
    returned = launcher.launch([["train.seed=2"], ["train.seed=1"], ["train.seed=1"]], 0)
    assert [job.return_value for job in returned] == [None, 0.75, None]
    assert home.sweep is not None and home.sweep.left_out == 2 and len(home.sweep.rows) == 1
    assert OmegaConf.load(tmp_path / "multirun.yaml") == launcher.config
