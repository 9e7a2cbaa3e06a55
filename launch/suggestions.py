"""The setting that somebody meant who wrote one that is not there."""

import dataclasses
import difflib
from typing import Any

from distributed_cls.config import Config
from distributed_cls.config.registry import models

# What people type who know the setting from elsewhere.
_SYNONYMS = {
    "lr": "train.learning_rate",
    "rate": "train.learning_rate",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "num_epochs": "train.epochs",
    "n_epochs": "train.epochs",
    "early_stopping": "train.patience",
    "fp16": "train.mixed_precision",
    "amp": "train.mixed_precision",
    "xla": "train.jit_compile",
    "num_workers": "cluster.workers",
    "world_size": "cluster.workers",
    "gpus": "cluster.gpus_per_worker",
    "num_gpus": "cluster.gpus_per_worker",
    "size": "data.image_size",
    "img_size": "data.image_size",
    "resolution": "data.image_size",
    "dataset": "data.name",
    "name": "data.name",
    "images": "data.path",
    "input": "data.path",
    "out": "output",
    "output_dir": "output",
    "checkpoint": "model_dir",
    "hydra.sweeper.n_jobs": "sweep.parallel",  # of Hydra's Optuna sweeper
}
GROUPS = ("data", "model", "train", "cluster", "job", "experiment")
_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweeper.n_trials")  # as --help lists them
_MOST = 3  # suggestions in one line


def settings() -> list[str]:
    """Every setting by its dotted name, those of all models among them, in the order of the sections."""
    found = []
    for item in dataclasses.fields(Config):
        kinds: list[Any] = list(models().values()) if item.name == "model" else [item.type]
        for kind in kinds:
            if dataclasses.is_dataclass(kind):
                found += [f"{item.name}.{inner.name}" for inner in dataclasses.fields(kind)]
            else:
                found.append(item.name)
    return list(dict.fromkeys(found))


def unknown_setting(path: str, chosen_model: str | None = None) -> str:
    """The line for ``path``: the nearest settings by their names and by what people mean.

    chosen_model: the name of the model in whose settings a ``model.…`` was looked for.
    """
    if path.startswith("cluster.spark."):
        return (
            f"Expected Spark properties as one mapping. Received: {path}. "
            "Write '+cluster.spark={spark.executor.memory:4g}'."
        )
    if path == "hydra.sweeper.n_trials":
        return f"Unknown setting {path}. It belongs to a search: add -m experiment=search."
    owners = [name for name, kind in models().items() if path in _names("model", kind)]
    if owners and chosen_model:
        own = ", ".join(sorted(_names("model", models()[chosen_model]) - {"model.name"}))
        return f"{path} is a setting of model={' and model='.join(owners)}. The chosen model={chosen_model} has {own}."
    near = nearest(path)
    suggestion = f" Did you mean {' or '.join(near)}?" if near else ""
    section = path.rpartition(".")[0]
    where = f"--help {section}" if any(setting.startswith(f"{section}.") for setting in settings()) else "--help"
    return f"Unknown setting {path}.{suggestion} See python -m launch {where}."


def _names(section: str, kind: Any) -> set[str]:
    return {f"{section}.{item.name}" for item in dataclasses.fields(kind)}


def nearest(path: str) -> list[str]:
    """The settings that ``path`` may stand for, at most three of them."""
    section, _, name = path.rpartition(".")
    if path in _SYNONYMS:
        return [_SYNONYMS[path]]
    if section.partition(".")[0] == "hydra":
        return difflib.get_close_matches(path, _OF_HYDRA, n=1)
    if name.lower() in _SYNONYMS:
        return [_SYNONYMS[name.lower()]]
    known = settings()
    inside = {setting.rpartition(".")[2]: setting for setting in known if setting.startswith(f"{section}.")}
    if section and inside:
        close = difflib.get_close_matches(name, inside, n=1)
        if close:
            return [inside[close[0]]]
    same = [setting for setting in known if setting.rpartition(".")[2] == name and setting != path]
    return same if 0 < len(same) <= _MOST else difflib.get_close_matches(path, [*known, *GROUPS], n=1)
