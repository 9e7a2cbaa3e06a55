"""The rules against Optuna's pruners, which are written independently of them, and by hand."""

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner

from distributed_cls.config import SweepConfig
from launch.stopping import is_rung, reason_to_stop

EPOCHS, TRIALS = 10, 40


def curves(seed: int) -> list[list[float]]:
    """Curves that rise to limits of their own and cross; rounded, so that some are equal."""
    draw = np.random.default_rng(seed)
    limits, rates = draw.uniform(0.3, 1.0, TRIALS), draw.uniform(0.1, 1.0, TRIALS)
    epochs = np.arange(1, EPOCHS + 1)
    noisy = limits[:, None] * (1 - np.exp(-rates[:, None] * epochs)) + draw.normal(0, 0.03, (TRIALS, EPOCHS))
    return np.clip(noisy, 0, 1).round(2).tolist()


def ended_by_optuna(pruner: BasePruner, values: list[list[float]]) -> list[int]:
    """The epoch after which each trial ended, one trial after the other."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    ends = []
    for curve in values:
        trial, end = study.ask(), EPOCHS
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                end = epoch
                break
        pruned = end < EPOCHS
        state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if pruned else curve[-1], state=state)
        ends.append(end)
    return ends


def ended_by_us(settings: SweepConfig, values: list[list[float]]) -> list[int]:
    began: list[list[float]] = []
    done: list[list[float]] = []
    for curve in values:
        stops = (
            epoch for epoch in range(1, EPOCHS) if reason_to_stop(curve[:epoch], began, done, settings) is not None
        )
        end = next(stops, EPOCHS)
        began.append(curve[:end])
        if end == EPOCHS:
            done.append(curve)
    return [len(curve) for curve in began]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("min_epochs", "reduction"), [(1, 3), (2, 2), (1, 4), (3, 3)])
def test_asha_ends_the_trials_that_optuna_ends(seed: int, min_epochs: int, reduction: int) -> None:
    pruner = SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=reduction)
    settings = SweepConfig(stop="asha", min_epochs=min_epochs, reduction=reduction)
    ends = ended_by_us(settings, curves(seed))
    assert ends == ended_by_optuna(pruner, curves(seed))
    assert 2 < ends.count(EPOCHS) < TRIALS // 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("min_epochs", "min_trials"), [(1, 5), (4, 1)])
def test_the_median_rule_ends_the_trials_that_optuna_ends(seed: int, min_epochs: int, min_trials: int) -> None:
    pruner = MedianPruner(n_startup_trials=min_trials, n_warmup_steps=min_epochs)
    settings = SweepConfig(stop="median", min_epochs=min_epochs, min_trials=min_trials)
    ends = ended_by_us(settings, curves(seed))
    assert ends == ended_by_optuna(pruner, curves(seed))
    assert 2 < ends.count(EPOCHS) < TRIALS


def test_rungs_are_powers_of_the_reduction_from_the_first_on() -> None:
    assert [epoch for epoch in range(1, 30) if is_rung(epoch, 1, 3)] == [1, 3, 9, 27]
    assert [epoch for epoch in range(1, 30) if is_rung(epoch, 2, 2)] == [2, 4, 8, 16]


def test_a_reason_has_the_numbers_and_without_a_rule_there_is_none() -> None:
    others = [[0.5], [0.9], [0.7]]
    reason = reason_to_stop([0.6], others, [], SweepConfig(stop="asha"))
    assert reason is not None and "0.6000 after epoch 1" in reason and "0.9000" in reason and "1 of 4" in reason
    reason = reason_to_stop([0.6], [], others, SweepConfig(stop="median", min_trials=3))
    assert reason is not None and "0.6000 until epoch 1" in reason and "0.7000" in reason
    assert reason_to_stop([0.0], others, others, SweepConfig()) is None
    assert reason_to_stop([0.0], others, others, SweepConfig(stop="median", min_trials=4)) is None
