"""The figures of a report: plain numbers in, inline SVG out. All are legible at the width of a phone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from distributed_cls.evaluation.drawing import BLUE, INK, MUTED, ORANGE, PAPER, canvas, styled, to_svg
from distributed_cls.evaluation.history import Curve, History
from distributed_cls.evaluation.labels import number, percent, plural, short_names
from distributed_cls.evaluation.metrics import Calibration, ClassScores, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond these, text in a confusion matrix would overlap: first the counts go, then the names.
_MOST_COUNTED_CLASSES = 14
MOST_NAMED_CLASSES = 40
SHORTEST_LABEL = 16  # characters of a class's name in a figure, at least
# The colours of heat lie over the page with varying opacity, so that 0 looks like the page, light or dark.
_BLUE_HEAT, _ORANGE_HEAT = (0, 114, 178), (213, 94, 0)


@styled
def learning_curve(
    history: History, metric: str, kept: int | None = None, first_phase: int | None = None
) -> str | None:
    """Loss or accuracy of train and val over the epochs; None when no epoch has ended yet.

    ``kept``: the epoch whose weights the run kept. ``first_phase``: the last epoch before the second phase. Both are
    marked.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    train, val = history.per_epoch("train", metric), history.per_epoch("val", metric)
    if not train and not val:
        return None
    figure, axes = canvas()
    _line(axes, train, "training", color=ORANGE, linestyle=(0, (4, 2)), marker="D", markersize=5 * (len(train) == 1))
    _line(axes, val, "validation", color=BLUE, marker="o", markersize=5 if len(val) == 1 else 3.5 * (len(val) < 40))
    marked = [point for point in val if point[0] == kept] if len(val) > 1 else []
    look = {"markersize": 7, "markerfacecolor": PAPER, "markeredgewidth": 1.8}
    _line(axes, marked, "kept epoch", color=BLUE, marker="o", linestyle="", **look)
    if first_phase and first_phase < max(epoch for epoch, _ in train or val):
        axes.axvline(first_phase + 0.5, color=MUTED, linestyle=(0, (1, 2)), linewidth=1.4, label="second phase begins")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if max(len(train), len(val)) == 1:  # Two points would else be a whole axis apart, however close they are.
        axes.set_ylim(0, 1.03 if metric == "accuracy" else 1.1 * axes.get_ylim()[1])
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="best")
    words = [
        f"{split} ends at {number(curve[-1][1])}"
        for split, curve in (("training", train), ("validation", val))
        if curve
    ]
    return to_svg(figure, f"curve-{metric}", f"{metric} over the epochs: {', '.join(words)}")


def _line(axes: "Axes", curve: Curve, label: str, **look: Any) -> None:
    if curve:
        axes.plot([x for x, _ in curve], [y for _, y in curve], label=label, **look)


@styled
def learning_rate_curve(history: History) -> str | None:
    """Learning rate over the steps; None when fewer than two values are known."""
    from matplotlib.ticker import MaxNLocator

    curve = history.learning_rate()
    if len(curve) < 2:
        return None
    figure, axes = canvas(height=2.4)
    _line(axes, curve, "learning rate", color=BLUE)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    peak = max(rate for _, rate in curve)
    return to_svg(figure, "learning-rate", f"learning rate over the steps, at most {number(peak)}")


@styled
def throughput_curve(history: History, mean: float | None = None) -> str | None:
    """Training images per second over the run; None when fewer than two values are known.

    ``mean``: that of the whole run, as the summary has it; without it the line shows the curve's median.
    """
    from matplotlib.ticker import StrMethodFormatter

    curve = history.throughput()
    if len(curve) < 2:
        return None
    level, what = (mean, "whole run") if mean else (float(np.median([rate for _, rate in curve])), "median")
    figure, axes = canvas(height=2.4)
    _line(axes, curve, "images/s", color=BLUE, marker="o" if len(curve) < 40 else None, markersize=3)
    axes.axhline(level, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.2, label=f"{what} {level:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the first report")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(loc="lower right")
    return to_svg(figure, "throughput", f"throughput over time, {what} {level:,.0f} images per second")


@styled
def reliability_diagram(calibrated: Calibration, before: Calibration | None = None) -> str:
    """Accuracy against confidence in each bin, with the share of images in it as a faint bar.

    ``before``: the same before temperature scaling, drawn behind.
    """
    from matplotlib.ticker import PercentFormatter

    figure, axes = canvas(4.4, 3.6)
    filled = calibrated.count > 0
    width = 1 / len(calibrated.count)
    left = np.arange(len(calibrated.count)) * width
    shares = share(calibrated.count, calibrated.count.sum())
    axes.bar(left, shares, width, align="edge", color=MUTED, alpha=0.25, label="share of images")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="perfect")
    if before is None:
        gap = calibrated.confidence[filled], calibrated.accuracy[filled]
        axes.vlines(calibrated.confidence[filled], *gap, color=ORANGE, linewidth=2)
    if before is not None:
        seen = before.count > 0
        look: dict[str, Any] = {"markersize": 5, "markerfacecolor": PAPER, "color": ORANGE}
        axes.plot(before.confidence[seen], before.accuracy[seen], "D:", linewidth=1, label="before scaling", **look)
    label = "accuracy" if before is None else "after scaling"
    axes.plot(calibrated.confidence[filled], calibrated.accuracy[filled], "o", color=BLUE, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3 if before is None else 2, columnspacing=1.2)
    words = f"accuracy against confidence, calibration error {percent(calibrated.error)}"
    return to_svg(figure, "reliability", words + (f", before scaling {percent(before.error)}" if before else ""))


@styled
def f1_bars(scores: ClassScores, names: Sequence[str], limit: int = 30) -> str:
    """F1 of each class that occurs, worst first; of many classes the worst ``limit``."""
    from matplotlib.ticker import PercentFormatter

    occurring = np.flatnonzero(scores.support)
    worst = occurring[np.argsort(scores.f1[occurring], kind="stable")][:limit]
    labels = short_names(names, 22)
    figure, axes = canvas(4.0, 0.6 + 0.26 * max(len(worst), 2))
    rows = np.arange(len(worst))
    axes.barh(rows, scores.f1[worst], height=0.62, color=BLUE)
    for row, index in enumerate(worst):
        axes.text(scores.f1[index] + 0.015, row, percent(scores.f1[index]), va="center", color=INK)
    axes.set_yticks(rows, [labels[index] for index in worst])
    axes.set(xlim=(0, 1.18), ylim=(len(worst) - 0.4, -0.6))  # room for the number of a full bar
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("F1")
    return to_svg(figure, "f1", f"F1 of {plural(len(worst), 'class', 'classes')}, worst first")


@styled
def confusion_matrix(confusion: ArrayLike, names: Sequence[str]) -> str:
    """Rows are true classes, columns predicted ones; blue is right, vermilion wrong.

    The shade is the square root of the share of the row: with the share itself, one mistake in a hundred could not be
    seen. Counts are written in up to 14 classes and names up to 40; beyond, classes are numbered in their order.
    """
    matrix = np.asarray(confusion, np.int64)
    classes = len(matrix)
    size = 4.6 if classes <= _MOST_COUNTED_CLASSES else 6.6
    figure, axes = canvas(size, size)
    axes.imshow(_heat(matrix), interpolation="none", extent=(-0.5, classes - 0.5, classes - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    axes.set(xlabel="predicted", ylabel="true")
    if classes <= MOST_NAMED_CLASSES:
        labels = short_names(names, SHORTEST_LABEL)
        size_of_text = 8.0 if classes <= _MOST_COUNTED_CLASSES else 6.5
        axes.set_xticks(range(classes), labels, rotation=90)
        axes.set_yticks(range(classes), labels)
        axes.tick_params(labelsize=size_of_text, labelcolor=INK, length=0)
    else:
        axes.set(xlabel="predicted (number of the class)", ylabel="true (number of the class)")
    if classes <= _MOST_COUNTED_CLASSES:
        _write_counts(axes, matrix)
    wrong = int(matrix.sum() - np.trace(matrix))
    return to_svg(figure, "confusion", f"confusion matrix of {classes} classes, {plural(wrong, 'mistake')}")


def _heat(matrix: np.ndarray) -> np.ndarray:
    """RGBA image, float64 of shape (classes, classes, 4) in [0, 1], of a confusion matrix."""
    image = np.empty((*matrix.shape, 4))
    image[..., :3] = np.array(_ORANGE_HEAT) / 255
    image[np.eye(len(matrix), dtype=bool), :3] = np.array(_BLUE_HEAT) / 255
    image[..., 3] = heat_opacity(matrix)
    return image


def heat_opacity(matrix: np.ndarray) -> np.ndarray:
    """Opacity of each cell, (classes, classes) in [0, 1]: the square root of its share of the row."""
    return np.sqrt(share(matrix, matrix.sum(axis=1, keepdims=True)))


def _write_counts(axes: "Axes", matrix: np.ndarray) -> None:
    opacity = heat_opacity(matrix)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "#ffffff" if opacity[row, column] > 0.6 else INK
        axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", fontsize=7.5, color=colour)
