"""The command line that repeats a run."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from distributed_cls.config import MODELS, Config

# What Hydra's override grammar takes without quotes; the words would be read as something else than text.
_PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[\w./:%+@?\-]+", re.ASCII | re.IGNORECASE)
# Named by the choice of a group, so not worth a setting of their own.
_CHOICES = {"data": "source", "model": "name", "cluster": "name", "job": "name"}


def command(summary: Mapping[str, Any]) -> str | None:
    """The command of ``summary``: as given, or made from its configuration; None when it has neither."""
    given = summary.get("command")
    if given:
        return given if isinstance(given, str) else shlex.join(str(word) for word in given)
    config = summary.get("config")
    return shlex.join(["python", "-m", "launch", *overrides(config)]) if config else None


def overrides(config: Mapping[str, Any]) -> list[str]:
    """Group choices, then every setting that is not at its default, in Hydra's grammar."""
    chosen = {group: config.get(group, {}).get(name) for group, name in _CHOICES.items()}
    model = MODELS.get(str(chosen["model"]))
    defaults = dict(_leaves(dataclasses.asdict(Config(model=model() if model else {}))))
    taken = {f"{group}.{name}" for group, name in _CHOICES.items()}
    return [f"{group}={choice}" for group, choice in chosen.items() if choice is not None] + [
        f"{key}={_value(value)}"
        for key, value in _leaves(config)
        if key not in taken and (key not in defaults or defaults[key] != value)
    ]


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting. A free mapping, such as ``cluster.spark``, is one value."""
    for key, value in section.items():
        if isinstance(value, Mapping) and prefix == "":
            yield from _leaves(value, f"{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_value(key)}:{_value(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if isinstance(value, int | float) or _PLAIN.fullmatch(text):
        return text
    # Within quotes, backslashes stand for themselves unless a quote follows them.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"
