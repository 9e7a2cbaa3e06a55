"""How much of the difference between the trials each setting explains, by Optuna's random forest."""

import importlib.util
import math
import warnings
from collections.abc import Sequence

from distributed_cls.contracts.trials_table import TrialRow
from distributed_cls.evaluation import axes

FEWEST_TRIALS = 10
_MOST_TRIALS = 1000  # taken evenly from all: the forest takes seconds by then


def is_installed() -> bool:
    """Whether Optuna is there, which the extra ``sweep`` brings."""
    return importlib.util.find_spec("optuna") is not None


def importance(rows: Sequence[TrialRow], keys: Sequence[str]) -> list[tuple[str, float]]:
    """The share of each of the settings ``keys``, largest first; they sum to 1.

    The mean decrease of impurity (Breiman 2001, "Random Forests") over the trials that are done and have all these
    settings; Optuna's fANOVA fails with NumPy 2 in the release that Hydra's sweeper needs. Numbers from two decades on
    count by their logarithm, as they are drawn. Empty with fewer than ``FEWEST_TRIALS`` of them, with fewer than two
    settings that differ, and where all are equally good.
    """
    used = [row for row in rows if row.done and row.refit_of is None and row.val_accuracy is not None]
    used = [row for row in used if all(key in row.overrides for key in keys)]
    used = used[:: max(1, math.ceil(len(used) / _MOST_TRIALS))]
    values = {key: [row.overrides[key] for row in used] for key in keys}
    found = {key: axes.of_setting(given) for key, given in values.items() if len(set(given)) > 1}
    drawn = {key: axis for key, axis in found.items() if axis is not None}
    if len(used) < FEWEST_TRIALS or len(drawn) < 2 or len({row.val_accuracy for row in used}) < 2:
        return []
    import optuna  # takes a second, once a sweep

    distributions = {
        key: optuna.distributions.CategoricalDistribution(list(dict.fromkeys(axis.places)))
        if axis.categories
        else optuna.distributions.UniformDistribution(0.0, 1.0)
        for key, axis in drawn.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize")
        for index, row in enumerate(used):
            placed = {key: axis.places[index] for key, axis in drawn.items()}
            made = optuna.trial.create_trial(value=row.val_accuracy, params=placed, distributions=distributions)
            study.add_trial(made)
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return sorted(((key, float(share)) for key, share in shares.items()), key=lambda item: -item[1])
