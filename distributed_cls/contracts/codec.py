"""Dataclasses to JSON and back, checked: what another process or another release wrote is never taken on trust.

Only plain fields are known: str, int, float, bool, None, enums, tuples, lists, mappings with text keys, dataclasses,
unions of these with None, and types that brought their own conversion (``register``). Anything else is a mistake of
ours and fails in the contract's own test.
"""

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")

_CONVERSIONS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}

Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]  # noqa: UP007 - refers to itself


def register(kind: type[T], to_json: Callable[[T], Any], from_json: Callable[[Any], T]) -> None:
    """Let ``kind`` be a field's type: ``from_json`` checks what ``to_json`` gave, and raises ValueError."""
    _CONVERSIONS[kind] = (to_json, from_json)


def to_plain(value: Any) -> Any:
    """A dataclass, or a value of one of its fields, as JSON values."""
    if type(value) in _CONVERSIONS:
        return _CONVERSIONS[type(value)][0](value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text of ``to_plain``. Raises ValueError for NaN and infinity, which JSON does not know."""
    return json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """``value`` (of ``json.loads``) as an instance of the dataclass ``kind``. ``where`` names it in errors.

    Raises ValueError: a field that is missing, unknown, or of another type.
    """
    return typing.cast(T, _build(kind, value, where or kind.__name__))


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def take_version(content: dict[str, Any], newest: int) -> int:
    """Take ``schema_version`` out of a file's content: 1 where none was written. Raises ValueError for a later one."""
    version: int = content.pop("schema_version", 1)
    if version not in range(1, newest + 1):
        raise ValueError(f"schema version {version}, which is newer than this release's {newest}")
    return version


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind in _CONVERSIONS:
        return _CONVERSIONS[kind][1](value)
    if kind == Json or (isinstance(kind, typing.ForwardRef) and kind.__forward_arg__ == "Json"):
        return value
    if origin in (Union, types.UnionType):
        return _build_union(typing.get_args(kind), value, where)
    if origin in (list, tuple):
        _expect(isinstance(value, list | tuple), "a list", value, where)
        item = typing.get_args(kind)[0]
        return origin(_build(item, part, f"{where}[{number}]") for number, part in enumerate(value))
    if origin in (dict, Mapping):
        _expect(isinstance(value, Mapping), "a mapping", value, where)
        item = typing.get_args(kind)[1]
        return {str(key): _build(item, part, f"{where}.{key}") for key, part in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(typing.cast(type, kind), value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        _expect(value in choices, f"one of {', '.join(map(str, choices))}", value, where)
        return kind(value)
    return _build_plain(kind, value, where)


def _build_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    for kind in others[:-1]:
        try:
            return _build(kind, value, where)
        except ValueError:
            continue
    return _build(others[-1], value, where)


def _build_dataclass(kind: type, value: Any, where: str) -> Any:
    _expect(isinstance(value, Mapping), "a mapping", value, where)
    known = _field_types(kind)
    unknown = sorted(value.keys() - known.keys())
    _expect(not unknown, f"only the fields {', '.join(known)}", ", ".join(map(str, unknown)), where)
    made = {name: _build(known[name], part, f"{where}.{name}") for name, part in value.items()}
    for item in dataclasses.fields(kind):
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        _expect(not required or item.name in made, f"the field {item.name}", "none", where)
    return kind(**made)


def _build_plain(kind: Any, value: Any, where: str) -> Any:
    assert kind in (str, int, float, bool), f"{where}: {kind} is no type of a contract"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(
        type(value) is kind,
        {str: "text", int: "a whole number", float: "a number"}.get(kind, "a truth value"),
        value,
        where,
    )
    return value


def _expect(holds: bool, expected: str, received: Any, where: str) -> None:
    if not holds:
        raise ValueError(f"{where}: expected {expected}, received {received!r}")
