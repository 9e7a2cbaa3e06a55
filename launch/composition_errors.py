"""One line for whatever Hydra and OmegaConf raise while a command line becomes a configuration."""

import dataclasses
import difflib
import re
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException

from distributed_cls.config import Config
from distributed_cls.config.registry import models
from distributed_cls.errors import UserError

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
    "images": "data.path",
    "input": "data.path",
    "out": "output",
    "output_dir": "output",
    "checkpoint": "model_dir",
}
_GROUPS = ("data", "model", "train", "cluster", "job", "experiment")
_KINDS = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "ListConfig": "a list, such as [1,2]",
    "DictConfig": "a mapping, such as {key:value}",
}


def one_line(error: Exception) -> str:
    """What was expected, what was received and what to do."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, chosen = str(error.missing_cfg_file).rpartition("/")
        return f"Expected {group} to be one of {', '.join(error.options)}. Received: {group}={chosen}. Set one of them."
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    # Hydra says which override failed, its cause says why.
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    ambiguous = re.search(r"Ambiguous value for argument '(.*?)' ?1\. ", text)
    if ambiguous:
        return f"{_unreadable(ambiguous.group(1))} For several trials add -m."
    key = re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in '", text)
    if key:
        full = re.search(r"full_key: (\S+)", text)
        return unknown_setting(full.group(1) if full else key.group(1) or key.group(2))
    unknown = re.search(r"Could not override '([^']+)'\. *No match in the defaults list", text)
    if unknown:
        return unknown_setting(unknown.group(1))
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"Expected a value for {missing.group(1)}. Received: none. Set {missing.group(1)}=… on the command line."
    return _wrong_type(text) or text


def _unreadable(override: str) -> str:
    """An override that Hydra's grammar does not take: the user's own value, quoted so that it works."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"Expected key=value. Received: {override}. See python -m launch --help."
    if value.startswith(("[", "{", "'", '"')):
        return (
            f"Expected key=value with brackets and quotes closed. Received: {override}. Close them, or quote the value."
        )
    inner = value.replace("\\", "\\\\").replace("'", "\\'")
    quoted = f"{key}='{inner}'"
    shell = f'"{quoted}"' if not set(quoted) & set('"$`\\!') else "'" + quoted.replace("'", "'\\''") + "'"
    return f"Expected a value in quotes, because of its special characters. Received: {override}. Write {shell}."


def _wrong_type(text: str) -> str | None:
    full_key = re.search(r"full_key: (\S+)", text)
    if not full_key:
        return None
    name = full_key.group(1)
    converted = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text)
    if converted:
        value, kind = converted.groups()
        return f"{name} must be {_KINDS.get(kind, kind)}; got {value!r}."
    if "is not Optional" in text:
        return f"{name} must have a value; got null."
    boolean = re.search(r"Value '(.*)' is not a valid bool", text)
    if boolean:
        return f"{name} must be true or false; got {boolean.group(1)!r}."
    received = text.split(" full_key")[0].strip().removeprefix("Error merging override ")
    return f"{name} has a value of another type: {received}."


def unknown_setting(path: str) -> str:
    """The nearest setting, by its name and by what people mean."""
    if path.startswith("cluster.spark."):
        return (
            f"Expected Spark properties as one mapping. Received: {path}. "
            "Write '+cluster.spark={spark.executor.memory:4g}'."
        )
    known = settings()
    section, _, name = path.rpartition(".")
    near = _SYNONYMS.get(name.lower()) or _same_last_part(name, known)
    if near is None:
        names = {setting.rpartition(".")[2]: setting for setting in known if setting.startswith(f"{section}.")}
        if not section or not names:
            names |= {setting: setting for setting in [*known, *_GROUPS]}
        close = difflib.get_close_matches(name if section and names else path, names, n=1)
        near = names[close[0]] if close else None
    suggestion = f" Did you mean {near}?" if near else ""
    where = f"--help {section}" if any(setting.startswith(f"{section}.") for setting in known) else "--help"
    return f"Unknown setting {path}.{suggestion} See python -m launch {where}."


def _same_last_part(name: str, known: list[str]) -> str | None:
    found = [setting for setting in known if setting.rpartition(".")[2] == name]
    return found[0] if len(found) == 1 else None


def settings() -> list[str]:
    """Every setting by its dotted name, those of all models among them."""
    found = []
    for item in dataclasses.fields(Config):
        kinds: list[Any] = list(models().values()) if item.name == "model" else [item.type]
        for kind in kinds:
            if dataclasses.is_dataclass(kind):
                found += [f"{item.name}.{inner.name}" for inner in dataclasses.fields(kind)]
            else:
                found.append(item.name)
    return sorted(set(found))
