"""Which trials of a sweep are hopeless: pure functions of the validation accuracies so far.

A curve holds a trial's validation accuracy at the end of each epoch, in [0, 1].
"""

import statistics
from collections.abc import Sequence

from distributed_cls.config import SweepConfig

Curve = Sequence[float]


def reason_to_stop(curve: Curve, began: Sequence[Curve], done: Sequence[Curve], settings: SweepConfig) -> str | None:
    """Why the trial with ``curve`` ends after its last epoch; None when it goes on.

    began: the curves of all other trials, whatever became of them. done: those among them that came to their end.
    """
    if settings.stop == "asha":
        return _asha(curve, began, settings.min_epochs, settings.reduction)
    if settings.stop == "median":
        return _median(curve, done, settings.min_epochs, settings.min_trials)
    return None


def is_rung(epoch: int, min_epochs: int, reduction: int) -> bool:
    """Whether ``epoch`` is min_epochs · reduction^k for some k ≥ 0."""
    rung = min_epochs
    while rung < epoch:
        rung *= reduction
    return rung == epoch


def _asha(curve: Curve, others: Sequence[Curve], min_epochs: int, reduction: int) -> str | None:
    """Successive halving without waiting (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    At a rung a trial goes on when it is among the best n // reduction, at least one, of the n that have reached the
    rung so far. The paper pauses the others and may go on with them later; here they end.
    """
    epoch = len(curve)
    if not is_rung(epoch, min_epochs, reduction):
        return None
    at_rung = sorted([other[epoch - 1] for other in others if len(other) >= epoch] + [curve[-1]], reverse=True)
    kept = max(1, len(at_rung) // reduction)
    needed = at_rung[kept - 1]
    if curve[-1] >= needed:
        return None
    return (
        f"sweep.stop=asha: accuracy {curve[-1]:.4f} after epoch {epoch}, and {needed:.4f} is needed to be among the "
        f"best {kept} of {len(at_rung)}"
    )


def _median(curve: Curve, done: Sequence[Curve], min_epochs: int, min_trials: int) -> str | None:
    """The median rule (Golovin et al. 2017, "Google Vizier", 3.2.2), with the accuracies at the same epoch.

    A trial ends whose best accuracy so far is below the median of the trials that are done.
    """
    epoch = len(curve)
    if epoch < min_epochs or len(done) < min_trials:
        return None
    at_epoch = [other[epoch - 1] for other in done if len(other) >= epoch]
    if not at_epoch or max(curve) >= (needed := statistics.median(at_epoch)):
        return None
    return (
        f"sweep.stop=median: accuracy {max(curve):.4f} until epoch {epoch}, and the median of {len(at_epoch)} trials "
        f"is {needed:.4f}"
    )
