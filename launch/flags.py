"""Flags that Hydra does not have, in one line instead of the forty of its usage."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from distributed_cls.errors import UserError
from launch.suggestions import GROUPS, nearest

_OURS = ("--help", "--version", "--main-file", "--archive", "--prepare-java", "--json")


def check(arguments: Sequence[str]) -> None:
    """Raise UserError for what Hydra's own parser of flags would refuse."""
    parser = get_args_parser()
    known = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> NoReturn:
        reason = message.removeprefix("argument ")
        raise UserError(f"Expected the flags of python -m launch --help. Received: {reason}.")

    parser.error = refuse  # type: ignore[method-assign]
    try:
        _, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        refuse(str(error))
    if unknown:
        raise UserError(f"Unknown flag {unknown[0]}. {_advice(unknown[0], [*known, *_OURS])}")
    _check_choices([argument for argument in arguments if not argument.startswith("-")])


def _check_choices(overrides: Sequence[str]) -> None:
    """Raise UserError where a choice such as ``data=`` is no name: Hydra's own line would not say which one it was."""
    parser = OverridesParser.create()
    for text in overrides:
        key, equals, _ = text.partition("=")
        if equals and not key.strip("+~ "):
            raise UserError(f"Expected key=value. Received: {text}. See python -m launch --help.")
        if key not in GROUPS or not equals:
            continue
        try:
            override = parser.parse_override(text)
        except HydraException:  # its line comes when Hydra reads it
            continue
        if not override.is_sweep_override() and not isinstance(override.value(), str | list | QuotedString):
            raise UserError(
                f"Expected the name of a choice of {key}. Received: {text}. See python -m launch --help {key}."
            )


def _advice(flag: str, known: Sequence[str]) -> str:
    name, equals, value = flag.partition("=")
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    setting = nearest(name.lstrip("-").replace("-", "_"))
    example = f"{setting[0]}={value if equals else '…'}" if setting else "key=value"
    return f"Settings have no dashes: {example}. See python -m launch --help."
