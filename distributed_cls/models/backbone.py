"""A network of ``keras.applications`` as a backbone with a new head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distributed_cls.config.registry import register_model
from distributed_cls.config.section import setting
from distributed_cls.models import applications
from distributed_cls.models.building import head, in_colour
from distributed_cls.models.pretrained import PretrainedSettings

if TYPE_CHECKING:
    import keras

_WEIGHTS = (
    "start of the backbone: null (random), imagenet (downloaded once, by the driver), an earlier run's folder, or the "
    "path or URL of a weights file"
)


@dataclass
class ApplicationSettings(PretrainedSettings):
    """A network of ``keras.applications``: its preprocessing, the network, dropout and a dense layer."""

    has_imagenet: ClassVar[bool] = True
    has_fixed_features: ClassVar[bool] = True
    min_image_size: ClassVar[int] = 32  # each of them halves the image five times

    weights: str | None = setting(None, _WEIGHTS)
    dropout: float = setting(0.2, "fraction of activations dropped before the output layer", at_least=0, below=1)

    @property
    def application(self) -> tuple[str, float | None]:
        """The network's name in Keras, and its width (None: the usual one)."""
        raise AssertionError(f"{type(self).__name__} names no network")

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        network, alpha = self.application
        backbone = applications.make(network, pixels.shape[1], alpha)
        x = applications.prepared(network, in_colour(pixels))
        # A frozen backbone keeps its BatchNorm statistics as well (training=False), as Keras's transfer guide advises.
        return head(backbone(x, training=False) if self.frozen else backbone(x), classes, self.dropout)


@register_model
@dataclass
class BackboneConfig(ApplicationSettings):
    """Any network of keras.applications with a new head (transfer learning)."""

    name: str = setting("backbone", "which model", choices=("backbone",))
    network: str = setting("MobileNetV2", "which network of keras.applications", choices=applications.NETWORKS)
    alpha: float | None = setting(
        None, "MobileNets: width, as a factor of the usual number of filters; null: 1", above=0, at_most=2
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and self.network not in applications.WITH_ALPHA:
            self.refuse("alpha", self.alpha, f"null with model.network={self.network}", "Leave it out.")

    @property
    def application(self) -> tuple[str, float | None]:
        return self.network, self.alpha

    @property
    def least_image_size(self) -> int:
        return applications.LEAST_SIZE.get(self.network, self.min_image_size)
