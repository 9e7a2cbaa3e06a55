"""What can be chosen by name beyond the fields: models and data sources, each registered by its own module.

A model is one module with a ``ModelSettings`` class, a data source one with a ``SourceSpec``; choices, limits, the help
and the error lines follow from what is registered here.
"""

import importlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from distributed_cls.config.section import Section

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

    def build(self, pixels: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
        """Logits, float32 [N, classes], of images [N, S, S, 3] with values 0 to 255: normalisation is inside.

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


Model = TypeVar("Model", bound=type[ModelSettings])

_MODELS: dict[str, type[ModelSettings]] = {}
_SOURCES: dict[str, SourceSpec] = {}


def register_model(kind: Model) -> Model:
    """Make a model known by the default of its field ``name``; a class decorator, outside of ``@dataclass``."""
    name = next(str(item.default) for item in fields(kind) if item.name == "name")  # type: ignore[arg-type]
    known = _MODELS.get(name)
    assert known is None or known.__qualname__ == kind.__qualname__, f"two models are called {name}"
    _MODELS[name] = kind
    return kind


def models() -> dict[str, type[ModelSettings]]:
    """Every registered model by its name; those of this package register themselves when first asked for."""
    importlib.import_module(_BUILT_IN_MODELS)  # by name: the package imports this module
    return dict(sorted(_MODELS.items()))


def register_source(spec: SourceSpec) -> None:
    """Make a data source known."""
    known = _SOURCES.get(spec.name)
    assert known is None or known == spec, f"two data sources are called {spec.name}"
    _SOURCES[spec.name] = spec


def source(name: str) -> SourceSpec | None:
    """A data source; None where no source is registered, as in the process of a rank, which never lists images."""
    return _SOURCES.get(name)


def source_names() -> tuple[str, ...]:
    """The registered data sources; empty where none is registered, and then any name is taken."""
    return tuple(sorted(_SOURCES))
