"""What a model's probabilities are made of after training."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


@dataclass
class EvaluateConfig(Section):
    """How the trained model answers: what is fitted on the val split, and travels with the exported model."""

    section = "evaluate"

    calibrate: bool = setting(
        True, "temperature scaling: confidence that agrees with accuracy; which class is predicted does not change"
    )
    coverage: float | None = setting(
        None,
        'share of the val images that get an answer; below the score that follows from it: "none of these"; '
        "null: every image gets one",
        above=0,
        at_most=1,
    )
    reject_by: str = setting(
        "energy",
        "the score that evaluate.coverage sets a limit to: energy (of all logits) finds what is none of the classes, "
        "confidence (the highest probability) leaves out more of the mistakes among the classes",
        choices=("energy", "confidence"),
    )
    mirror: bool = setting(
        False,
        "answer with the mean for an image and for its mirror image, which takes twice the time: in the final "
        "evaluation and in the exported model, not in the validations of a training",
    )
