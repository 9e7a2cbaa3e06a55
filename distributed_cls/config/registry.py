"""What can be chosen by name beyond the fields: models and data sources, each registered by its own module.

A model is one module with a ``ModelSettings`` class, a data source one with a ``SourceSpec``; choices, limits, the help
and the error lines follow from what is registered here.
"""

import importlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from distributed_cls.config.section import Section
from distributed_cls.errors import UserError

if TYPE_CHECKING:
    import keras

_BUILT_IN_MODELS = "distributed_cls.models"


class ModelSettings(Section):
    """The settings of a model, and how they become its Keras network. Sub-classes are dataclasses.

    The first field is ``name``, whose default is the model's name.
    """

    section = "model"
    min_image_size: ClassVar[int] = 8  # pixels
    name: str

    @property
    def least_image_size(self) -> int:
        """Of these settings, pixels."""
        return self.min_image_size

    @property
    def frozen(self) -> bool:
        """Whether all layers before the head stay as they are, in the first phase of a training."""
        return False

    @property
    def keeps_features(self) -> str:
        """Whether the frozen backbone's output for each image is stored: auto (where it can be), on (it must), off."""
        return "off"

    @property
    def stored_views(self) -> int:
        """Of how many augmented views of a training image features can be stored; 0: of none."""
        return 0

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        """Logits, float32 [N, classes], of images [N, S, S, 1 or 3] with values 0 to 255, normalised inside.

        Stock Keras layers only, so that a saved model loads without this package. Keras is imported in here: the
        settings are read by processes that never import it.
        """
        raise AssertionError(f"{type(self).__name__} builds no network")


@dataclass(frozen=True)
class SourceSpec:
    """What the configuration knows of a data source."""

    name: str
    needs_path: bool = True
    expected_path: str = "the images"  # what data.path should be, for the error
    origin: str = ""  # the module that registers it


Model = TypeVar("Model", bound=type[ModelSettings])

_MODELS: dict[str, type[ModelSettings]] = {}
_SOURCES: dict[str, SourceSpec] = {}


def register_model(kind: Model) -> Model:
    """Make a model known by the default of its field ``name``; a class decorator, above ``@dataclass``.

    Raises UserError for a class that is no complete ``ModelSettings``, or whose name is taken.
    """
    _check_fields(kind)
    name = str(kind.name)
    known = _MODELS.get(name, kind)
    if _origin(known) != _origin(kind):
        raise UserError(f"Expected one model of each name. Received: {name} in {_origin(known)} and {_origin(kind)}.")
    _MODELS[name] = kind
    return kind


def _origin(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_fields(kind: type) -> None:
    """A mistake in a plug-in is named where it is made, not when the help or a rank first meets it."""
    wrong = ""
    if not issubclass(kind, ModelSettings) or kind.build is ModelSettings.build:
        wrong = "no ModelSettings with a build of its own"
    elif "__dataclass_fields__" not in vars(kind):
        wrong = "no dataclass"
    elif not isinstance(getattr(kind, "name", None), str):
        wrong = "no field name with the model's name as its default"
    else:
        bare = [item.name for item in fields(kind) if "doc" not in item.metadata]  # type: ignore[arg-type]
        wrong = f"no setting(…) for {', '.join(bare)}" if bare else ""
    if wrong:
        raise UserError(
            f"Expected {_origin(kind)} to be a model's settings. Received: {wrong}. "
            "Write @register_model above @dataclass, and each field as name: type = setting(default, meaning)."
        )


def models() -> dict[str, type[ModelSettings]]:
    """Every registered model by its name; those of this package register themselves when first asked for."""
    importlib.import_module(_BUILT_IN_MODELS)  # by name: the package imports this module
    return dict(sorted(_MODELS.items()))


def model(name: str) -> type[ModelSettings]:
    """The settings class of a model. Raises UserError when none of that name is registered."""
    known = models()
    if name not in known:
        raise UserError(
            f"Expected model.name to be one of {', '.join(known)}. Received: model.name={name}. "
            "A model of a plug-in needs DISTRIBUTED_CLS_PLUGINS as its training did."
        )
    return known[name]


def register_source(spec: SourceSpec) -> None:
    """Make a data source known. Raises UserError when its name is taken."""
    known = _SOURCES.get(spec.name, spec)
    if known != spec:
        raise UserError(
            f"Expected one data source of each name. Received: {spec.name} in {known.origin} and {spec.origin}."
        )
    _SOURCES[spec.name] = spec


def source(name: str) -> SourceSpec | None:
    """A data source; None where no source is registered, as in the process of a rank, which never lists images."""
    return _SOURCES.get(name)


def source_names() -> tuple[str, ...]:
    """The registered data sources; empty where none is registered, and then any name is taken."""
    return tuple(sorted(_SOURCES))
