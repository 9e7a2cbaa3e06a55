"""Matplotlib figures as inline SVG that takes its colours and its font from the page around it.

Figures are drawn in stand-in colours; on the way out these become CSS variables, so one drawing suits a light page, a
dark page and paper. Matplotlib is imported inside the functions: it costs the driver about a second, at the very end.
"""

import functools
import io
import re
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-in colour → CSS variable. The two hues (blue, vermilion) are from Okabe and Ito (2008), "Color universal
# design": they stay apart for every common kind of colour blindness; report.css gives each a shade for light and dark.
INK, MUTED, GRID, PAPER, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BLUE: "blue", ORANGE: "orange"}
_STAND_IN = re.compile("|".join(_VARIABLES))
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_OWN_ID = re.compile(r"#([\w.-]+)")

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be selected, found, and set in any script the reader has
    "text.parse_math": False,  # a class may be called "$5$"
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


# Matplotlib's settings and Python's warnings are those of the process; trials side by side draw one after the other.
_drawing = threading.RLock()

_Inputs = ParamSpec("_Inputs")
_Output = TypeVar("_Output")


def styled(draw: Callable[_Inputs, _Output]) -> Callable[_Inputs, _Output]:
    """Run a drawing function in this module's style, and leave Matplotlib's global settings as they were."""

    @functools.wraps(draw)
    def drawn(*args: _Inputs.args, **kwargs: _Inputs.kwargs) -> _Output:
        from matplotlib import rc_context

        with _drawing, rc_context(_STYLE), warnings.catch_warnings():
            # Matplotlib only measures text; the browser draws it, with fonts for scripts that Matplotlib has none for.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            return draw(*args, **kwargs)

    return drawn


def canvas(width: float = 5.0, height: float = 3.0) -> "tuple[Figure, Axes]":
    """A figure of ``width`` by ``height`` inches (72 SVG units each) and its axes, without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def to_svg(figure: "Figure", name: str, description: str) -> str:
    """One ``<svg>`` element for an HTML page. ``name`` keeps its ids apart from those of other figures.

    ``description`` is what a reader hears who cannot see it.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _drawing, rc_context({"svg.hashsalt": name}):  # the same ids for the same figure, every time
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        _adopt(element, name)
    for definitions in root.findall("defs"):
        # Matplotlib's style element would apply to the whole page; report.css has its one rule.
        for style in definitions.findall("style"):
            definitions.remove(style)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("class", "figure")
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")


def _adopt(element: ElementTree.Element, name: str) -> None:
    """Make one element fit into a page: no XML namespaces, ids of its own, the page's font and colours."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key in ("href", "clip-path") and not value.startswith("data:"):
            attributes[key] = _OWN_ID.sub(rf"#{name}-\1", value)
        elif key == "style":
            colours = _STAND_IN.sub(lambda found: f"var(--{_VARIABLES[found.group()]})", value)
            attributes[key] = _FONT_FAMILY.sub("", colours)
    element.attrib.clear()
    element.attrib.update(attributes)
