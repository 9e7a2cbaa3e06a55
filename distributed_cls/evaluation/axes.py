"""Values on an axis: where each lies in [0, 1], and which of them are written beside it."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distributed_cls.evaluation.labels import readable

MOST_CATEGORIES = 12  # beyond, the names of an axis overlap
_LOG_FROM = 100.0  # largest ÷ smallest value of an axis that is logarithmic: two decades
_MARGIN = 0.04  # of the axis, beyond the outermost values
_MOST_TICKS = 5
_LARGEST = 1e150  # of a number on an axis: differences stay finite


@dataclass(frozen=True)
class Axis:
    """One axis: the place of every value, None where there is none, and its ticks as (place, text)."""

    places: list[float | None]
    ticks: list[tuple[float, str]]
    categories: int = 0  # how many texts it has; 0: numbers
    log: bool = False


def of_setting(values: Sequence[str | None]) -> Axis | None:
    """The axis of a setting by its values as they were given: numbers, on a logarithmic axis from two decades on, or
    else texts in the order in which they first occur. None where these are more than ``MOST_CATEGORIES``."""
    numbers = [None if value is None else _finite(value) for value in values]
    given = [number for number in numbers if number is not None]
    if len(given) == sum(value is not None for value in values) and given:
        return _of_numbers(numbers, given)
    names = list(dict.fromkeys(value for value in values if value is not None))
    if not names or len(names) > MOST_CATEGORIES:
        return None
    place = {name: (index + 0.5) / len(names) for index, name in enumerate(names)}
    return Axis(
        [None if value is None else place[value] for value in values],
        [(place[name], readable(name)) for name in names],
        categories=len(names),
    )


def of_shares(values: Sequence[float | None]) -> Axis:
    """The axis of accuracies in [0, 1], no longer than they need; None and what is not finite has no place."""
    known = [None if value is None or not math.isfinite(value) else value for value in values]
    given = [value for value in known if value is not None] or [0.0, 1.0]
    low, high = min(given), max(given)
    if high - low < 0.002:  # one alone, or all alike: a difference that nobody measures must not fill the page
        low, high = low - 0.01, high + 0.01
    step = _step(high - low)
    ticks = [tick for tick in _multiples(low, high, step) if -1e-9 <= tick <= 1 + 1e-9]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) - 2)
    place = _linear(low, high)
    return Axis(
        [None if value is None else place(value) for value in known],
        [(place(tick), f"{100 * tick:.{decimals}f}%") for tick in ticks],
    )


def of_epochs(most: int) -> Axis:
    """The axis of the epochs 1, 2, … ``most``, one place for each."""
    if most == 1:
        return Axis([0.5], [(0.5, "1")])
    place, step = _linear(1, most), max(1, math.ceil(_step(most - 1)))
    ticks = range(1, most + 1, step) if step <= 2 else [1, *range(step, most + 1, step)]
    return Axis([place(epoch) for epoch in range(1, most + 1)], [(place(tick), f"{tick:,}") for tick in ticks])


def _of_numbers(numbers: Sequence[float | None], given: Sequence[float]) -> Axis:
    low, high = min(given), max(given)
    log = low > 0 and high / low >= _LOG_FROM
    if low == high:
        return Axis([None if number is None else 0.5 for number in numbers], [(0.5, _text(low))])
    scaled = math.log10 if log else float
    place = _linear(scaled(low), scaled(high))
    distinct = sorted(set(given))
    if len(distinct) <= _MOST_TICKS:
        ticks = _apart([(place(scaled(value)), _text(value)) for value in distinct])
    elif log:
        decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        every = math.ceil(len(decades) / _MOST_TICKS)
        ticks = [(place(decade), f"1e{decade}") for decade in decades[::every]]
    else:
        ticks = [(place(tick), _text(tick)) for tick in _multiples(low, high, _step(high - low))]
    return Axis([None if number is None else place(scaled(number)) for number in numbers], ticks, log=log)


def _linear(low: float, high: float) -> Callable[[float], float]:
    """From [low, high] to [0, 1] less a margin on both sides."""
    return lambda value: _MARGIN + (1 - 2 * _MARGIN) * (value - low) / (high - low)


def _apart(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those whose texts do not lie on each other."""
    kept = ticks[:1]
    for tick in ticks[1:]:
        if tick[0] - kept[-1][0] >= 1 / (2 * _MOST_TICKS):
            kept.append(tick)
    return kept


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < _LARGEST else None  # not a number neither


def _step(length: float) -> float:
    """1, 2 or 5 times a power of ten that cuts ``length`` into 2 to 5 parts."""
    power = 10.0 ** math.floor(math.log10(length / _MOST_TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if length / (factor * power) <= _MOST_TICKS)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    within = itertools.takewhile(lambda tick: tick <= high + 1e-9 * step, (n * step for n in itertools.count(first)))
    return list(itertools.islice(within, 2 * _MOST_TICKS))


def _text(number: float) -> str:
    return f"{number:.4g}"
