"""Flags that Hydra does not have, in one line instead of the forty of its usage."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from distributed_cls.errors import UserError
from launch.suggestions import nearest

_OURS = ("--help", "--version", "--main-file", "--json")


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


def _advice(flag: str, known: Sequence[str]) -> str:
    name, equals, value = flag.partition("=")
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    setting = nearest(name.lstrip("-").replace("-", "_"))
    example = f"{setting[0]}={value if equals else '…'}" if setting else "key=value"
    return f"Settings have no dashes: {example}. See python -m launch --help."
