"""The figures of a sweep: trials in, inline SVG out.

Written without Matplotlib: the page is written again and again while a sweep goes on, which must cost the driver
milliseconds, and a thousand trials must not make it large. Colours and font are those of report.css. All are legible
at the width of a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from distributed_cls.evaluation import axes
from distributed_cls.evaluation.axes import Axis
from distributed_cls.evaluation.labels import percent, plural, readable, shorten

MOST_LINES = 200  # of the parallel coordinates
MOST_CURVES = 60
_MOST_TITLED = 300  # dots that say which trial they are; beyond, they are one path
_MOST_POINTS = 100  # of one curve

_WIDTH, _HEIGHT = 360.0, 230.0  # in SVG units, which are about pixels on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 8.0, 8.0, 34.0  # around the axes
_BETWEEN, _BESIDE = 88.0, 42.0  # two axes of the parallel coordinates; room on both sides of them


@dataclass(frozen=True)
class Dot:
    """A trial in a figure. accuracy: of the val split, in [0, 1]; curve: the same at the end of each epoch."""

    number: int
    accuracy: float | None
    curve: Sequence[float] = ()
    done: bool = True
    best: bool = False

    @property
    def known(self) -> bool:
        return self.accuracy is not None and math.isfinite(self.accuracy)


def thinned(count: int, most: int) -> list[int]:
    """Which of ``count`` things, best first, are shown: the better half of ``most``, and the others evenly spread."""
    if count <= most:
        return list(range(count))
    best = most // 2
    rest = most - best
    return [*range(best), *(best + round(index * (count - 1 - best) / (rest - 1)) for index in range(rest))]


def scatter(dots: Sequence[Dot], axis: Axis, heading: str) -> Markup:
    """Val accuracy against one setting, whose ``axis`` has a place for each of ``dots``."""
    height = axes.of_shares([dot.accuracy for dot in dots])
    shown = [
        (_x(_spread(x, index, axis.categories)), _y(y), dot)
        for index, (x, y, dot) in enumerate(zip(axis.places, height.places, dots, strict=True))
        if x is not None and y is not None
    ]
    inner = _frame(axis, height, "logarithmic" if axis.log else "")
    for done, look in ((True, 'fill="var(--blue)" fill-opacity=".65"'), (False, _RING)):
        inner += _dots([found for found in shown if found[2].done is done and not found[2].best], look)
    inner += _dots([found for found in shown if found[2].best], 'fill="var(--blue)" stroke="var(--ink)"', 5.5)
    return _svg(inner, f"validation accuracy against {heading}, {plural(len(shown), 'trial')}")


_RING = 'fill="none" stroke="var(--orange)" stroke-width="1.3"'


def _dots(found: Sequence[tuple[float, float, Dot]], look: str, radius: float = 3.2) -> Markup:
    if len(found) > _MOST_TITLED:
        size = 2 * radius
        path = "".join(
            f"M{x:.0f} {y:.0f}m-{radius} 0a{radius} {radius} 0 1 0 {size} 0a{radius} {radius} 0 1 0-{size} 0"
            for x, y, _ in found
        )
        return Markup(f'<path {look} d="{path}"/>')
    return Markup("").join(
        Markup(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}><title>#{dot.number}: {_share(dot)}</title>'
            "</circle>"
        )
        for x, y, dot in found
    )


def _share(dot: Dot) -> str:
    return percent(dot.accuracy) if dot.accuracy is not None else ""


def _spread(place: float | None, index: int, categories: int) -> float:
    """Dots of one category side by side: the golden ratio keeps neighbours in the order apart."""
    assert place is not None
    return place + ((index * 0.618034) % 1 - 0.5) * 0.6 / categories if categories else place


def parallel(dots: Sequence[Dot], settings: Sequence[tuple[str, Axis]]) -> Markup:
    """Parallel coordinates: a line for each trial through its settings to its val accuracy; ``dots`` best first.

    The best tenth is blue, and the best of all the strongest line.
    """
    last = axes.of_shares([dot.accuracy for dot in dots])
    drawn = [*settings, ("validation", last)]
    known = [index for index, dot in enumerate(dots) if dot.known]
    tenth, kept = max(1, len(known) // 10), thinned(len(known), MOST_LINES)
    groups: dict[str, str] = {}
    for rank in reversed(kept):
        index = known[rank]
        look = "best" if dots[index].best else "good" if rank < tenth else "rest"
        groups[look] = groups.get(look, "") + _line([axis.places[index] for _, axis in drawn])
    inner = Markup("")
    for look in ("rest", "good", "best"):
        if look in groups:
            inner += Markup(f'<path fill="none" {_LINES[look]} d="{groups[look]}"/>')
    for position, (heading, axis) in enumerate(drawn):
        inner += _upright(_BESIDE + _BETWEEN * position, heading, axis)
    label = f"parallel coordinates of {plural(len(kept), 'trial')}: {', '.join(heading for heading, _ in drawn)}"
    return _svg(inner, label, parallel_width(len(settings)), _HEIGHT + 10)


def parallel_width(settings: int) -> float:
    """Of the parallel coordinates of so many settings, in the units in which their text has 10."""
    return 2 * _BESIDE + _BETWEEN * settings


_LINES = {
    "rest": 'stroke="var(--muted)" stroke-opacity=".28"',
    "good": 'stroke="var(--blue)" stroke-opacity=".6" stroke-width="1.3"',
    "ended": 'stroke="var(--orange)" stroke-opacity=".6" stroke-width="1.3"',
    "best": 'stroke="var(--blue)" stroke-width="3"',
}


def _line(places: Iterable[float | None]) -> str:
    """Through the axes from the left to the right; broken where a trial has no place."""
    path, broken = "", True
    for position, place in enumerate(places):
        if place is not None:
            path += f"{'M' if broken else 'L'}{_BESIDE + _BETWEEN * position:.0f} {_tall(place):.0f}"
        broken = place is None
    return path


def _tall(place: float) -> float:
    return 30 + (_HEIGHT - 34) * (1 - place)


def _upright(x: float, heading: str, axis: Axis) -> Markup:
    """An axis of the parallel coordinates, its ticks to the right."""
    inner = Markup(f'<path stroke="var(--muted)" d="M{x:.0f} {_tall(0):.0f}V{_tall(1):.0f}"/>')
    inner += _text(x, 14, shorten(readable(heading), 13), "middle", "ink")
    if axis.log:
        inner += _text(x, 25, "log", "middle")
    for place, text in axis.ticks:
        y = _tall(place)
        inner += Markup(f'<path stroke="var(--muted)" d="M{x:.0f} {y:.0f}h4"/>')
        inner += _text(x + 6, y + 3.5, shorten(text, 11), "start", halo=True)
    return inner


def curves(dots: Sequence[Dot]) -> tuple[Markup | None, int, int]:
    """Val accuracy at the end of each epoch, the trials (best first) over each other; how many are shown, of how many.

    None where no trial has had two epochs.
    """
    found = [dot for dot in dots if dot.curve]
    most = max((len(dot.curve) for dot in found), default=0)
    if most < 2:
        return None, 0, len(found)
    shown = [found[position] for position in thinned(len(found), MOST_CURVES)]
    height = axes.of_shares([accuracy for dot in shown for accuracy in dot.curve])
    epochs, places = axes.of_epochs(most), iter(height.places)
    lines = [(dot, _curve(epochs, [next(places) for _ in dot.curve])) for dot in shown]
    inner = _frame(epochs, height, "epoch")
    for dot, path in sorted(lines, key=lambda line: line[0].best):  # what is drawn last lies above
        look = _LINES["best" if dot.best else "good" if dot.done else "ended"]
        title = f"#{dot.number}: {_share(dot)}"
        inner += Markup(f'<path fill="none" stroke-linecap="round" {look} d="{path}"><title>{title}</title></path>')
    label = f"learning curves of {plural(len(shown), 'trial')} over {plural(most, 'epoch')}"
    return _svg(inner, label), len(shown), len(found)


def _curve(epochs: Axis, places: Sequence[float | None]) -> str:
    every = math.ceil(len(places) / _MOST_POINTS)
    kept = [index for index in range(len(places)) if index % every == 0 or index == len(places) - 1]
    points = [(epochs.places[index], places[index]) for index in kept]
    joined = [f"{_x(x):.1f} {_y(y):.1f}" for x, y in points if x is not None and y is not None]
    return "M" + "L".join(joined) + ("h0" if len(joined) == 1 else "") if joined else ""


def bars(shares: Sequence[tuple[str, float]]) -> Markup:
    """One bar for each (name, share in [0, 1]), in the order given."""
    height = 8 + 24.0 * len(shares)
    inner = Markup("")
    for row, (name, share) in enumerate(shares):
        y = 4 + 24 * row
        inner += _text(132, y + 14, shorten(readable(name), 24), "end", "ink")
        inner += Markup(
            f'<rect fill="var(--blue)" x="138" y="{y + 2}" width="{max(1.0, 180 * share):.1f}" height="15"/>'
        )
        inner += _text(142 + 180 * share, y + 14, percent(share), "start", "ink")
    words = ", ".join(f"{name} {percent(share)}" for name, share in shares)
    return _svg(inner, f"importance of the settings: {words}", _WIDTH, height)


def _frame(across: Axis, up: Axis, label: str) -> Markup:
    """Grid and ticks of both axes, and what the lower one shows."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    grid = "".join(f"M{_LEFT:.0f} {_y(place):.1f}H{right:.0f}" for place, _ in up.ticks)
    if not across.categories:
        grid += "".join(f"M{_x(place):.1f} {_TOP:.0f}V{bottom:.0f}" for place, _ in across.ticks)
    inner = Markup(f'<path stroke="var(--grid)" stroke-width=".7" d="{grid}"/>')
    for place, text in up.ticks:
        inner += _text(_LEFT - 5, _y(place) + 3.5, text, "end")
    room = int((right - _LEFT) / max(len(across.ticks), 1) / 5.6)  # characters below one tick
    for place, text in across.ticks:
        inner += _text(_x(place), bottom + 13, shorten(text, max(room, 3)), "middle")
    return inner + _text((_LEFT + right) / 2, _HEIGHT - 5, label, "middle", "ink")


def _x(place: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place


def _y(place: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - place)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "muted", halo: bool = False) -> Markup:
    look = ' paint-order="stroke" stroke="var(--paper)" stroke-width="3"' if halo else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})"{look}'
    return Markup(f"<text {place}>{escape(readable(text))}</text>")


def _svg(inner: Markup, label: str, width: float = _WIDTH, height: float = _HEIGHT) -> Markup:
    """One figure; ``label`` is what a reader hears who cannot see it."""
    return Markup(
        f'<svg class="figure" role="img" viewBox="0 0 {width:.0f} {height:.0f}" font-size="10" '
        f'aria-label="{escape(readable(label))}">{inner}</svg>'
    )
