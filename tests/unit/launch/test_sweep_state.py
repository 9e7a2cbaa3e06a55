"""Which trials of a sweep's folder are asked for again, and under which numbers."""

import json
from pathlib import Path

import pytest

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import UserError
from launch.sweep_state import Sweep, settings_of


def end(
    sweep: Sweep, number: int, settings: list[str], status: TrialStatus = TrialStatus.DONE, accuracy: float = 0.5
) -> None:
    sweep.put(TrialRow(number, settings_of(settings), "", status, accuracy))


def test_trials_that_ended_are_given_back_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    before = Sweep(tmp_path)
    statuses = [TrialStatus.DONE, TrialStatus.FAILED, TrialStatus.STOPPED, TrialStatus.UNFINISHED]
    for number, status in enumerate(statuses):
        settings = [f"train.seed={number}", "train.epochs=2"]
        assert before.ask(settings) == number
        end(before, number, settings, status)
    after = Sweep(tmp_path)  # of another process
    # One more value, in front, and a setting of the sweep: those that are there keep their numbers.
    answers = [
        after.ask([f"train.seed={seed}", "train.epochs=2", "sweep.stop=asha", "hydra.verbose=true"])
        for seed in ("9", "0", "1", "2", "3")
    ]
    assert [answer if isinstance(answer, int) else (answer.trial, answer.status.value) for answer in answers] == [
        *(4, (0, "done"), 1, (2, "stopped"), 3)
    ]
    assert [row.trial for row in after.rows] == [0, 1, 2, 3]  # the new one has not begun


def test_what_a_sampler_draws_twice_are_two_trials(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    assert [sweep.ask(["train.seed=1"]), sweep.ask(["train.seed=1"])] == [0, 1]
    end(sweep, 0, ["train.seed=1"], accuracy=0.25)
    end(sweep, 1, ["train.seed=1"], accuracy=0.75)
    again = Sweep(tmp_path)
    answers = [again.ask(["train.seed=1"]) for _ in range(3)]
    assert [answer.val_accuracy for answer in answers if isinstance(answer, TrialRow)] == [0.25, 0.75]
    assert answers[2] == 2


def test_two_trials_in_one_folder_are_refused(tmp_path: Path) -> None:
    """The second would find the first one's run, and have its accuracy."""
    sweep = Sweep(tmp_path)
    sweep.begun(0, ["train.epochs=2"], tmp_path / "same")
    with pytest.raises(UserError, match=r"Received: .*same for trials 0 and 1\. Let hydra\.sweep\.subdir differ"):
        sweep.begun(1, ["train.epochs=3"], tmp_path / "same")
    assert [row.trial for row in sweep.rows] == [0]
    Sweep(tmp_path).begun(0, ["train.epochs=2"], tmp_path / "same")  # it goes on


def test_the_settings_of_a_trial() -> None:
    given = [
        "model=cnn",
        "+cluster.spark={a.b:1=2}",
        "sweep.min_epochs=2",
        "tracking=mlflow",
        "hydra.verbose=1",
        "~data.seed",
    ]
    assert settings_of(given) == {"model": "cnn", "+cluster.spark": "{a.b:1=2}", "~data.seed": ""}


@pytest.mark.parametrize("text", ["{", json.dumps({"schema_version": 99, "best": None, "trials": []}), "[]"])
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "trials.json").write_text(text)
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir"):
        Sweep(tmp_path)
