"""How an exported model's confidence is made, and when its answer counts: part of model.json and summary.json."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Confidence:
    """What was fitted on the val split.

    The probabilities are softmax(logits / ``temperature``). An answer whose confidence is below ``threshold`` means
    "none of these"; the threshold accepts the share ``coverage`` of the val images. None: every answer counts.
    """

    temperature: float = 1.0
    threshold: float | None = None
    coverage: float | None = None

    def accepts(self, confidence: float) -> bool:
        """Whether an answer with this confidence counts."""
        return self.threshold is None or confidence >= self.threshold
