"""What a setting is: a dataclass field with a meaning and limits, in a section that checks them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from distributed_cls.errors import UserError


def setting(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field with its meaning (``doc``, unit included) and the limits that ``Section`` checks."""
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"doc": doc, "choices": choices, **{name: limit for name, limit in limits.items() if limit is not None}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


_LIMITS = {
    "at_least": (">=", lambda value, limit: value >= limit),
    "above": (">", lambda value, limit: value > limit),
    "at_most": ("<=", lambda value, limit: value <= limit),
    "below": ("<", lambda value, limit: value < limit),
}


def choices_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The values that a setting takes, where they are few; of those that are registered, the ones known now."""
    choices = metadata.get("choices", ())
    return tuple(choices() if callable(choices) else choices)


def shown(value: Any) -> str:
    """A value as the command line and YAML spell it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


class Section:
    """A group of settings. ``__post_init__`` checks each field; subclasses add rules across fields."""

    section = ""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if value is not None:
                self._check(item.name, value, dict(item.metadata))

    def _check(self, name: str, value: Any, metadata: dict[str, Any]) -> None:
        choices = choices_of(metadata)
        if choices and value not in choices:
            self.refuse(name, value, f"one of {', '.join(choices)}")
        values = value if isinstance(value, list) else [value]
        for limit_name, (symbol, holds) in _LIMITS.items():
            if limit_name in metadata and not all(holds(one, metadata[limit_name]) for one in values):
                what = "values" if isinstance(value, list) else "a value"
                self.refuse(name, value, f"{what} {symbol} {metadata[limit_name]}")
        if any(isinstance(one, float) and not math.isfinite(one) for one in values):
            self.refuse(name, value, "finite")

    def refuse(self, name: str, value: Any, expected: str, remedy: str = "") -> None:
        """Raise the one-line error for a setting of this section."""
        key = f"{self.section}.{name}" if self.section else name
        raise UserError(f"Expected {key} to be {expected}. Received: {key}={shown(value)}. {remedy}".rstrip())
