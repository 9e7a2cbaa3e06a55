"""What the final evaluation of a split counts, summed over the ranks: a rank's result, and part of evaluation.json."""

from dataclasses import dataclass

from distributed_cls.contracts.counts import ConfidenceBins, Counts


@dataclass(frozen=True)
class ProbabilityCounts:
    """What the metrics of probabilities are computed from, beside ``Counts``.

    ``ordered_pairs`` [classes]: pairs of an image of the class and an image of another one in which the first has the
    higher probability of the class; equal ones count one half. ``unscaled_loss_sum`` and ``unscaled_bins`` are those
    of ``Counts`` before temperature scaling. ``accepted``: images whose answer counts (``Confidence.accepts``).
    """

    ordered_pairs: list[float]
    unscaled_loss_sum: float
    unscaled_bins: ConfidenceBins
    accepted: int
    accepted_correct: int


@dataclass(frozen=True)
class EvaluationCounts:
    """Everything that is counted of a split. ``counts`` are those of the probabilities that the export gives."""

    counts: Counts
    probabilities: ProbabilityCounts
