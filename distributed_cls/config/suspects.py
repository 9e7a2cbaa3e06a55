"""How wrong labels are looked for."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


@dataclass
class SuspectsConfig(Section):
    """``job=suspects``: which training images are suspected to have a wrong label."""

    section = "suspects"

    folds: int = setting(
        4, "parts of the train split; for each one a model is trained on the others", at_least=2, at_most=100
    )
    pictures: int = setting(60, "most suspicious images that the page shows", at_least=1, at_most=1000)
