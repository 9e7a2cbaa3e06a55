"""Words for people: class names that are safe to show, and numbers at the precision they deserve."""

import math
import unicodedata
from collections.abc import Sequence

# Control characters and lone surrogates (undecodable file names) are illegal in XML and cannot be encoded;
# the bidirectional overrides would turn the text around them. Class names are folder names: anything may be in them.
_UNSHOWABLE_CATEGORIES = {"Cc", "Cs"}
_BIDIRECTIONAL_CONTROLS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def readable(name: object) -> str:
    """``name`` with every character that cannot be shown replaced by U+FFFD. Markup stays: escaping comes later."""
    return "".join(
        "\ufffd" if unicodedata.category(char) in _UNSHOWABLE_CATEGORIES or char in _BIDIRECTIONAL_CONTROLS else char
        for char in str(name)
    )


def shorten(name: str, limit: int) -> str:
    """At most ``limit`` characters: the middle goes, because names often differ only at their ends."""
    if len(name) <= limit:
        return name
    head, tail = limit // 2, (limit - 1) // 2  # with the ellipsis they make exactly `limit`
    return f"{name[:head]}…{name[len(name) - tail :]}"


def short_names(names: Sequence[object], limit: int) -> list[str]:
    """One label per class. When any name is longer than ``limit``, all are shortened and begin with their number.

    Long names often differ where they are cut, and the number leads to the whole name in the table of classes.
    """
    shown = [readable(name) for name in names]
    if all(len(name) <= limit for name in shown):
        return shown
    return [f"{index} {shorten(name, limit - len(str(index)) - 1)}" for index, name in enumerate(shown)]


def percent(fraction: float, of: int | None = None) -> str:
    """``0.9926`` as ``99.3%``; with two decimals when it is a share ``of`` a thousand things or more.

    Only 1 is 100%: what would round to it without being it is cut to 99.9% or 99.99%.
    """
    decimals = 2 if of is not None and of >= 1000 else 1
    if fraction < 1:
        fraction = min(fraction, 1 - 0.01 / 10**decimals)
    return f"{100 * fraction:.{decimals}f}%"


def interval(bounds: Sequence[float], of: int | None = None) -> str:
    """Two bounds of a share, as ``97.3% to 99.8%``."""
    return f"{percent(bounds[0], of)} to {percent(bounds[1], of)}"


def number(value: float | None, digits: int = 4) -> str:
    """Up to ``digits`` significant digits; thousands separated; a word when there is no finite number."""
    if value is None or not math.isfinite(value):
        return "not finite"
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """``0.42 s``, ``6.6 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
