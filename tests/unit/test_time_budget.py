"""``train.time_budget``: how many epochs fit, that it is decided once, and what the ranks measure for it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distributed_cls import job_checks, time_budget
from distributed_cls.barrier.supervisor import Outcome
from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts import checkpoint, events
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.events import EpochEnded
from distributed_cls.contracts.rank_task import RankResult, RankTask, Step, TrainPace
from distributed_cls.errors import UserError
from distributed_cls.training import pace

from .training.one_rank import EVENTS, only_rank

BATCH, STEPS = 12, 5
PACE = TrainPace(step=0.1, validation=1.0, steps=90, measured=4.0)  # 10 s an epoch


@pytest.mark.parametrize(
    ("budget", "spent", "epochs"),
    [
        (100.0, 14.0, 7),  # 100 - 14 - 10 to start again = 76 s, less 3 %
        (1000.0, 14.0, 94),
        (35.0, 14.0, 1),
        (1.0, 14.0, 1),  # nothing fits: there is a model all the same
    ],
)
def test_whole_epochs_that_fit(budget: float, spent: float, epochs: int) -> None:
    assert time_budget.fitting_epochs(budget, spent, PACE) == epochs


def _task(folder: Path, **train: object) -> RankTask:
    config = Config(train=TrainConfig(**train))  # type: ignore[arg-type]
    return RankTask(config, "data", "fingerprint", str(folder), (Step.TRAIN, Step.EVALUATE))


def test_the_ranks_measure_before_they_train(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[RankTask] = []

    def perform(task: RankTask) -> Outcome:
        asked.append(task)
        return Outcome(RankResult(pace=PACE), 1, workers=2)

    task = _task(tmp_path, time_budget=1000.0)
    with caplog.at_level("INFO"):
        fitted, outcome = time_budget.fitted(task, perform)
    assert [measuring.steps for measuring in asked] == [(Step.MEASURE,)]
    assert outcome is not None and fitted.steps == task.steps
    # Measuring took no time here: its 4 s are less than nothing to start again.
    assert fitted.config.train.epochs == pytest.approx(97, abs=1)
    assert f"{fitted.config.train.epochs} epochs of about 10 s" in caplog.text


def test_a_run_that_goes_on_keeps_its_epochs(tmp_path: Path) -> None:
    task = _task(tmp_path, time_budget=1000.0)
    begun = time_budget.with_epochs(task.config, 7)
    position = Position(epoch=6, step=60, dataset="fingerprint", settings=checkpoint.settings_of(begun))
    checkpoint.write(tmp_path / "checkpoints" / checkpoint.LAST, {"a": np.zeros(1)}, position)
    # Six epochs are more than the default of the setting that the budget stands for, and no reason to refuse.
    shorter = dataclasses.replace(task.config, train=dataclasses.replace(task.config.train, epochs=2))
    job_checks.check_resume(shorter, tmp_path)

    def perform(task: RankTask) -> Outcome:
        raise AssertionError("nothing is to be measured")

    fitted, outcome = time_budget.fitted(dataclasses.replace(task, config=shorter), perform)
    assert (fitted.config.train.epochs, outcome) == (7, None)


def test_a_second_phase_has_its_own_epochs() -> None:
    with pytest.raises(UserError, match=r"train\.time_budget to be null with a second phase"):
        TrainConfig(time_budget=60.0, fine_tune_epochs=2)


def test_what_a_rank_measures(tmp_path: Path) -> None:
    train = TrainConfig(batch_size=BATCH, optimizer="sgd", shuffle_buffer=32, epochs=3, time_budget=9.0)
    ctx = only_rank(tmp_path, train, STEPS)
    measured = pace.measure(ctx)
    assert measured.steps == STEPS
    assert min(measured.step, measured.validation) > 0
    # All the steps that there are, but for the first one, which traces the graph; then the validation.
    total = measured.step * (STEPS * train.epochs - 1) + measured.validation
    assert measured.measured == pytest.approx(total, rel=0.5, abs=0.5)
    assert not (tmp_path / "checkpoints").exists()
    lines = (tmp_path / EVENTS).read_text().splitlines()
    assert lines and not any(isinstance(events.loads(line), EpochEnded) for line in lines)
