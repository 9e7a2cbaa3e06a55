"""One line for whatever Hydra and OmegaConf raise while a command line becomes a configuration."""

import re
from collections.abc import Sequence

from hydra.errors import MissingConfigException, OverrideParseException

from distributed_cls.config.registry import models
from distributed_cls.errors import UserError
from distributed_cls.text import printable
from launch.suggestions import unknown_setting
from launch.text_values import quoted

_KINDS = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "ListConfig": "a list, such as [1,2]",
    "DictConfig": "a mapping, such as {key:value}",
}


def one_line(error: Exception) -> str:
    """What was expected, what was received and what to do."""
    return printable(_worded(error))


def _worded(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(str(error.missing_cfg_file), error.options or ())
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    # Hydra says which override failed, its cause says why.
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    ambiguous = re.search(r"Ambiguous value for argument '(.*?)' ?1\. ", text)
    if ambiguous:
        return f"{_unreadable(ambiguous.group(1))} For several trials add -m."
    sweep = re.search(r"Sweep parameters '(.*)' requires --multirun", text)
    if sweep:
        override = sweep.group(1)
        return f"Expected one value. Received: {override}. Add -m for several trials, or write {_quoted(override)}."
    key = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    if key:
        full = re.search(r"full_key: (\S+)", text)
        chosen = [name for name, kind in models().items() if kind.__name__ == key.group(2)]
        return unknown_setting(full.group(1) if full else key.group(1), chosen[0] if chosen else None)
    unknown = re.search(r"Could not override '([^']+)'\. *No match in the defaults list", text)
    if unknown:
        return unknown_setting(unknown.group(1))
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"Expected a value for {missing.group(1)}. Received: none. Set {missing.group(1)}=… on the command line."
    return _wrong_type(text) or text


def _unknown_choice(missing: str, options: Sequence[str]) -> str:
    group, _, chosen = missing.rpartition("/")
    known = f"one of {', '.join(options)}" if options else "one that is installed"
    received = f"Expected {group} to be {known}. Received: {group}={chosen}."
    if missing == "hydra/sweeper/optuna" or (group == "hydra/sweeper/sampler" and not options):
        return f"{received} Install Optuna's sweeper: pip install 'distributed-cls[sweep]'."
    return f"{received} Set one of them."


def _unreadable(override: str) -> str:
    """An override that Hydra's grammar does not take: the user's own value, quoted so that it works."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip("+~ "):
        return f"Expected key=value. Received: {override}. See python -m launch --help."
    if value.startswith(("[", "{", "'", '"')):
        return (
            f"Expected key=value with brackets and quotes closed. Received: {override}. "
            f"Close them, or for a plain text write {_quoted(override)}."
        )
    received = f"Expected a value in quotes, because of its special characters. Received: {override}."
    return f"{received} Write {_quoted(override)}."


def _wrong_type(text: str) -> str | None:
    full_key = re.search(r"full_key: (\S+)", text)
    if not full_key:
        return None
    name = full_key.group(1)
    given = re.search(
        rf"Error merging override \+*{re.escape(name)}=(.*?) (?:Value|Cannot|Invalid|Incompatible) ", text
    )
    received = given.group(1) if given else ""
    below = re.search(rf"Error merging override \+*({re.escape(name)}\.[\w.]+)=", text)
    if below:
        return unknown_setting(below.group(1))
    converted = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text)
    if converted:
        value, kind = converted.groups()
        return f"{name} must be {_KINDS.get(kind, kind)}; got {received or value!r}."
    if "is not Optional" in text:
        return f"{name} must have a value; got null."
    boolean = re.search(r"Value '(.*)' is not a valid bool", text)
    if boolean:
        return f"{name} must be true or false; got {boolean.group(1)!r}."
    if "does not support deletion" in text:
        return f"{name} cannot be removed. Leave it out for its default, or set another value."
    for sign, kind in (
        *(("is not a ListConfig", "ListConfig"), ("Cannot assign", "DictConfig"), ("to string:", "text")),
        ("Cannot merge", "ListConfig" if received.startswith("{") else "DictConfig"),  # one where the other should be
    ):
        if sign in text:
            advice = f" For a text write {_quoted(f'{name}={received}')}." if kind == "text" and received else ""
            return f"{name} must be {_KINDS.get(kind, kind)}; got {received}.{advice}"
    reason = text.split(" full_key")[0].strip().removeprefix("Error merging override ").rstrip(".")
    if "nterpolation" in reason:
        return f"{name} refers to another setting by ${{…}}: {reason}. For the characters themselves write \\${{…}}."
    return f"{name} has a value of another type: {reason}."


def _quoted(override: str) -> str:
    """``key=value`` such that a shell and then Hydra read it as the text ``value``."""
    key, _, value = override.partition("=")
    text = f"{key}={quoted(value)}"
    return f'"{text}"' if not set(text) & set('"$`\\!') else "'" + text.replace("'", "'\\''") + "'"
