"""The settings' dataclasses, known to Hydra: YAML and command line can only set what they declare."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from distributed_cls.config import MODELS, Config
from distributed_cls.errors import UserError


@dataclass
class _Schema(Config):
    """``Config`` with an open place for the model: OmegaConf would hold it to the class of its default."""

    model: Any = None


def register() -> None:
    """Register the schema, and one more for each model, which has settings of its own."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_Schema)
    for name, kind in MODELS.items():
        store.store(group="schema/model", name=name, node=kind)


def to_config(composed: DictConfig) -> Config:
    """The composed configuration as the framework's own objects; every check of theirs runs here."""
    made: Any = OmegaConf.to_object(composed)
    assert isinstance(made, Config)
    for name, section in [("", made), *vars(made).items()]:
        # Hydra's + adds any key, which OmegaConf then hangs on the object: it would be ignored without a word.
        for key in vars(section).keys() - _fields(section) if dataclasses.is_dataclass(section) else ():
            raise UserError(
                f"Expected a setting of --help. Received: +{name}{'.' if name else ''}{key}. "
                "Leave out the + to be told the nearest one."
            )
    return made


def _fields(section: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(section)}
