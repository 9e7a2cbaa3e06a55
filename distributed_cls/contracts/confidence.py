"""How an exported model's confidence is made, and when its answer counts: part of model.json and summary.json."""

import enum
from dataclasses import dataclass
from typing import TypeVar

_Score = TypeVar("_Score")


class RejectBy(str, enum.Enum):
    """The score that a threshold is of."""

    ENERGY = "energy"
    CONFIDENCE = "confidence"


@dataclass(frozen=True)
class Confidence:
    """What was fitted on the val split.

    The probabilities are softmax(logits / ``temperature``). An answer whose score is below ``threshold`` means "none of
    these"; the threshold accepts the share ``coverage`` of the val images. None: every answer counts. ``reject_by``
    names the score: the confidence (the highest probability), or the energy score ln Σ exp(logits / ``temperature``),
    the negative free energy of Liu et al. 2020, "Energy-based out-of-distribution detection". Earlier releases had the
    first alone.
    """

    temperature: float = 1.0
    threshold: float | None = None
    coverage: float | None = None
    reject_by: RejectBy = RejectBy.CONFIDENCE

    def score(self, confidence: _Score, energy: _Score) -> _Score:
        """That of the two which ``threshold`` is compared with; of one image, or arrays of several."""
        return energy if self.reject_by is RejectBy.ENERGY else confidence

    def accepts(self, confidence: float, energy: float) -> bool:
        """Whether the answer for an image with this confidence and this energy score counts."""
        return self.threshold is None or self.score(confidence, energy) >= self.threshold
