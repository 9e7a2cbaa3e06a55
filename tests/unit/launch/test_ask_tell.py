"""A search that is asked and told: it goes on, after its driver was killed, as if nothing had happened."""

import dataclasses
import functools
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.samplers import GridSampler, TPESampler
from optuna.trial import TrialState

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import UserError
from launch.ask_tell import AskTell
from launch.ask_tell_sweeper import AskTellSweeper, _Search
from launch.sweep_state import Sweep


def search(folder: Path, trials: int, sampler: Any = None) -> _Search:
    params = OmegaConf.create({"train.learning_rate": "tag(log, interval(1e-4, 1e-1))", "train.seed": "range(0, 4)"})
    sweeper = AskTellSweeper(sampler or TPESampler(seed=3, n_startup_trials=4), trials, params, None)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    return _Search(sweeper._reader(), ["model=dense", "sweep.parallel=2"], config)


def end(sweep: Sweep, number: int, overrides: Sequence[str]) -> None:
    """End a trial with an accuracy that follows from its settings; every fifth is stopped early, every seventh
    fails."""
    row = next(row for row in sweep.rows if row.trial == number)
    rate = float(row.overrides["train.learning_rate"])
    accuracy = 1 - abs(rate - 0.01)
    changes: dict[str, Any] = {"val_accuracy": accuracy, "status": TrialStatus.DONE, "curve": [accuracy / 2, accuracy]}
    if number % 5 == 4:
        changes |= {"status": TrialStatus.STOPPED, "curve": [accuracy / 2]}
    if number % 7 == 6:
        changes = {"status": TrialStatus.FAILED, "reason": "it failed"}
    sweep.put(dataclasses.replace(row, **changes))


def drive(folder: Path, trials: int, at_once: int, speeds: random.Random, kill_after: int | None = None) -> Sweep:
    """A search with trials that end in an order of chance, as far as the end of trial ``kill_after``."""
    sweep = Sweep(folder)
    talk = AskTell(search(folder, trials), sweep, trials)
    running: dict[int, Sequence[str]] = {}
    ends = 0
    while True:
        while len(running) < at_once and (following := talk.next()) is not None:
            number, overrides = following
            sweep.begun(number, overrides, folder / str(number))
            running[number] = overrides
        if not running or ends == kill_after:
            talk.end_all()
            return sweep
        number = speeds.choice(sorted(running))
        end(sweep, number, running.pop(number))
        talk.end(number)
        ends += 1


def _settings(sweep: Sweep) -> list[tuple[int, dict[str, str]]]:
    return [(row.trial, row.overrides) for row in sweep.rows]


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("kill_after", [0, 1, 5, 9, 12])
def test_a_search_that_was_killed_asks_for_the_same_trials(tmp_path: Path, at_once: int, kill_after: int) -> None:
    whole = drive(tmp_path / "whole", 12, at_once, random.Random(1))
    killed = drive(tmp_path / "killed", 12, at_once, random.Random(1), kill_after)
    before = _settings(killed)
    assert before == _settings(whole)[: len(before)]
    gone_on = drive(tmp_path / "killed", 12, at_once, random.Random(2))
    assert _settings(gone_on)[: len(before)] == before
    assert len(gone_on.rows) == 12 and all(row.status is not TrialStatus.UNFINISHED for row in gone_on.rows)
    if at_once == 1:  # only then the speeds decide nothing
        assert _settings(gone_on) == _settings(whole)
    longer = drive(tmp_path / "killed", 15, at_once, random.Random(3))
    assert _settings(longer)[:12] == _settings(gone_on) and len(longer.rows) == 15


def test_the_sampler_knows_what_optuna_knows_when_it_drives_itself(tmp_path: Path) -> None:
    sweep = drive(tmp_path, 10, 1, random.Random(1))
    ours = [float(row.overrides["train.learning_rate"]) for row in sweep.rows]
    assert {row.overrides["model"] for row in sweep.rows} == {"dense"}

    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=3, n_startup_trials=4))
    for number, row in enumerate(sweep.rows):
        trial = study.ask()
        rate = trial.suggest_float("train.learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_int("train.seed", 0, 4)
        assert rate == ours[number]
        for epoch, accuracy in enumerate(row.curve, 1):
            trial.report(accuracy, epoch)
        if row.failed:
            study.tell(trial, state=TrialState.FAIL)
        elif row.status is TrialStatus.STOPPED:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, row.val_accuracy)


def test_a_trial_is_asked_for_with_what_was_known_when_there_was_room(tmp_path: Path) -> None:
    """Not with the results of a whole batch, and not before."""
    sweep, heard = Sweep(tmp_path), []

    class Notes:
        def ask(self) -> list[str]:
            heard.append("ask")
            return [f"train.seed={len(heard)}"]

        def tell(self, place: int, row: TrialRow) -> None:
            heard.append(f"tell {place}")

    talk = AskTell(Notes(), sweep, 4)
    numbers = []
    for ended in (None, None, 1, 0):
        if ended is not None:
            sweep.put(dataclasses.replace(sweep.rows[ended], status=TrialStatus.DONE, val_accuracy=0.5))
            talk.end(ended)
        following = talk.next()
        assert following is not None
        numbers.append(following[0])
        sweep.begun(*following, tmp_path / str(following[0]))
    assert talk.next() is None and talk.left == 0
    assert heard == ["ask", "ask", "tell 1", "ask", "tell 0", "ask"] and numbers == [0, 1, 2, 3]
    assert [row.told for row in Sweep(tmp_path).rows] == [[], [], [1], [0]]


def test_a_grid_ends_with_its_last_point(tmp_path: Path) -> None:
    params = OmegaConf.create({"train.seed": "choice(1, 2, 3)", "model": "choice(dense, cnn)"})
    sweeper = AskTellSweeper(functools.partial(GridSampler), 20, params, None)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    grid = _Search(sweeper._reader(), [], config)
    sweep = Sweep(tmp_path)
    talk = AskTell(grid, sweep, grid.trials)
    while (following := talk.next()) is not None:
        number, overrides = following
        sweep.put(dataclasses.replace(sweep.begun(number, overrides, tmp_path / str(number)), val_accuracy=0.5))
        sweep.put(dataclasses.replace(sweep.rows[number], status=TrialStatus.DONE))
        talk.end(number)
    talk.end_all()
    drawn = {tuple(sorted(row.overrides.items())) for row in sweep.rows}
    assert drawn == {
        (("model", model), ("train.seed", str(seed))) for model, seed in itertools.product(("dense", "cnn"), (1, 2, 3))
    }
    grid.write_best()
    assert OmegaConf.load(tmp_path / "optimization_results.yaml").best_value == 0.5


@pytest.mark.parametrize("number", [0, -1, "many", 2.5, None])
def test_a_number_of_trials_that_is_none(number: object) -> None:
    with pytest.raises(UserError, match=r"n_trials to be a whole number >= 1. Received"):
        AskTellSweeper(None, number, None, None)._reader()
