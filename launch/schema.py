"""The settings' dataclasses, known to Hydra: YAML and command line can only set what they declare."""

import dataclasses
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from distributed_cls.config import Config, plugins
from distributed_cls.config.registry import models
from distributed_cls.errors import UserError
from distributed_cls.spark.environment import is_submitted


@dataclass
class _Schema(Config):
    """``Config`` with an open place for the model: OmegaConf would hold it to the class of its default."""

    model: Any = None


class _PluginConf(SearchPathPlugin):
    """The YAML files of plug-ins, beside our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugins.conf_folders():
            search_path.append("distributed_cls_plugins", f"file://{folder}")


def register() -> None:
    """Register the schema, one more for each model, the plug-ins and the name of a run's folder."""
    # Importing them registers the sources; only the driver lists images.
    import distributed_cls.dataset.sources  # noqa: F401

    plugins.load()
    store = ConfigStore.instance()
    store.store(name="schema", node=_Schema)
    for name, kind in models().items():
        store.store(group="schema/model", name=name, node=kind)
    Plugins.instance().register(_PluginConf)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def run_name(job: str, data: str, model: str, model_dir: str | None) -> str:
    """What a run's folder is called after its time: what was done, with what."""
    if job == "pipeline":
        return f"{data}-{model}"
    if job in ("prepare", "verify"):
        return f"{job}-{data}"
    if job == "train":
        return f"{job}-{data}-{model}"
    return f"{job}-{PurePath(model_dir).name}" if model_dir else job


def to_config(composed: DictConfig) -> Config:
    """The composed configuration as the framework's own objects; every check of theirs runs here."""
    made: Any = OmegaConf.to_object(composed)
    assert isinstance(made, Config)
    if not is_submitted():
        made.cluster.require_master()
    for name, section in [("", made), *vars(made).items()]:
        # Hydra's + adds any key, which OmegaConf then hangs on the object: it would be ignored without a word.
        for key in vars(section).keys() - _fields(section) if dataclasses.is_dataclass(section) else ():
            raise UserError(
                f"Expected a setting of --help. Received: +{name}{'.' if name else ''}{key}. "
                "Leave out the + to see the nearest one."
            )
    return made


def _fields(section: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(section)}
