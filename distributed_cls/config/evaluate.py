"""What a model's probabilities are made of after training."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


@dataclass
class EvaluateConfig(Section):
    """What is fitted on the val split after training, and travels with the exported model."""

    section = "evaluate"

    calibrate: bool = setting(
        True, "temperature scaling: confidence that agrees with accuracy; which class is predicted does not change"
    )
    coverage: float | None = setting(
        None,
        'share of the val images that get an answer; below the confidence that follows from it: "none of these"; '
        "null: every image gets one",
        above=0,
        at_most=1,
    )
