"""Texts on the command line that look like something else."""

import dataclasses
import re
import types
import typing

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from distributed_cls.config import Config
from distributed_cls.config.registry import models


def kept_as_written(arguments: list[str]) -> list[str]:
    """The command line, with quotes around values of text settings that Hydra would read as numbers or truth values.

    A folder called 1e3 would be looked for as 1000.0, a data set called 1_0 would be called 10.
    """
    texts, parser = _text_settings(), OverridesParser.create()
    return [_kept(argument, parser) if argument.partition("=")[0] in texts else argument for argument in arguments]


def _kept(argument: str, parser: OverridesParser) -> str:
    key, _, written = argument.partition("=")
    try:
        override = parser.parse_override(argument)
    except HydraException:  # its line comes when Hydra reads it
        return argument
    value = None if override.is_sweep_override() else override.value()
    return f"{key}='{written}'" if isinstance(value, int | float) and str(value) != written else argument


def quoted(value: str) -> str:
    """``value`` in Hydra's quotes, so that it is read as this text."""
    # Within them, backslashes stand for themselves unless a quote follows.
    inner = re.sub(r"(\\*)'", r"\1\1\\'", value)
    inner = re.sub(r"(\\+)$", r"\1\1", inner)
    return f"'{inner}'"


def _text_settings() -> set[str]:
    """Dotted names of the settings that are text, or text or null."""
    found = {item.name for item in dataclasses.fields(Config) if _is_text(item.type)}
    sections = [(item.name, item.type) for item in dataclasses.fields(Config) if dataclasses.is_dataclass(item.type)]
    for section, kind in [*sections, *(("model", kind) for kind in models().values())]:
        found |= {f"{section}.{item.name}" for item in dataclasses.fields(kind) if _is_text(item.type)}  # type: ignore[arg-type]
    return found


def _is_text(kind: object) -> bool:
    inner = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return set(inner) <= {str, types.NoneType} and str in inner
