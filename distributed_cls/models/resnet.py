"""ResNet50 (He et al. 2015, https://arxiv.org/abs/1512.03385) as Keras ships it, as a backbone with a new head."""

from dataclasses import dataclass

from distributed_cls.config.registry import register_model
from distributed_cls.config.section import setting
from distributed_cls.models.backbone import ApplicationSettings


@register_model
@dataclass
class ResnetConfig(ApplicationSettings):
    """ResNet50 with a new head (transfer learning)."""

    name: str = setting("resnet", "which model", choices=("resnet",))

    @property
    def application(self) -> tuple[str, float | None]:
        return "ResNet50", None
