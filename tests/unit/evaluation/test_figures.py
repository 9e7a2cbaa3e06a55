"""The figures: well-formed SVG that any page can take in, whatever the names and numbers are."""

import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from distributed_cls.contracts.counts import ConfidenceBins
from distributed_cls.contracts.events import EpochEnded, Metrics
from distributed_cls.evaluation import drawing, figures
from distributed_cls.evaluation.history import History
from distributed_cls.evaluation.metrics import calibration, class_scores

NAMES = ["$5$", "<b>&", "日本語", "🐱", "العربية", "a" * 80]


@pytest.fixture(autouse=True)
def no_warning_reaches_the_user() -> None:
    warnings.simplefilter("error")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def confusion(classes: int) -> np.ndarray:
    return np.random.default_rng(classes).poisson(0.5, (classes, classes)) + 9 * np.eye(classes, dtype=int)


@pytest.mark.parametrize(
    ("classes", "counted", "named"),
    [(2, True, True), (14, True, True), (15, False, True), (40, False, True), (41, False, False), (250, False, False)],
)
def test_confusion_matrix_writes_what_there_is_room_for(classes: int, counted: bool, named: bool) -> None:
    matrix = confusion(classes)
    found = texts(figures.confusion_matrix(matrix, [f"class-{index}" for index in range(classes)]))
    assert [text for text in found if text.startswith("class-")] == [f"class-{i}" for i in range(classes) if named] * 2
    if counted:
        written = sorted(int(text) for text in found if text.isdigit())
        assert written == sorted(matrix[matrix > 0].tolist())


def test_heat_is_the_square_root_of_the_share_of_the_row() -> None:
    np.testing.assert_allclose(figures.heat_opacity(np.array([[75, 25], [0, 0]])), [[0.75**0.5, 0.5], [0, 0]])


def test_names_come_through_as_they_are() -> None:
    matrix, names = confusion(5), NAMES[:5]
    for svg in (figures.confusion_matrix(matrix, names), figures.f1_bars(class_scores(matrix), names)):
        assert set(names) <= set(texts(svg))


def test_long_names_are_cut_in_the_middle_and_numbered() -> None:
    found = texts(figures.f1_bars(class_scores(confusion(6)), NAMES))
    assert "5 aaaaaaaaaa…aaaaaaaaa" in found and "0 $5$" in found


def test_f1_bars_show_the_worst_first_and_only_classes_that_occur() -> None:
    matrix = np.array([[9, 1, 0], [5, 5, 0], [0, 0, 0]])
    assert [text for text in texts(figures.f1_bars(class_scores(matrix), list("abc"))) if text in "abc"] == ["b", "a"]
    many = np.diag(np.arange(1, 51)) + np.eye(50, k=1, dtype=int)
    found = texts(figures.f1_bars(class_scores(many), [f"class-{index}" for index in range(50)]))
    named = [text for text in found if text.startswith("class-")]
    assert len(named) == 30 and named[0] == "class-0"


def test_reliability_diagram_of_no_images() -> None:
    nothing = calibration(ConfidenceBins())
    assert "accuracy" in texts(figures.reliability_diagram(nothing))


def test_an_empty_history_has_no_curves() -> None:
    nothing = History()
    assert figures.learning_curve(nothing, "loss") is None
    assert figures.learning_rate_curve(nothing) is None
    assert figures.throughput_curve(nothing) is None


@pytest.mark.parametrize(("first_phase", "marked"), [(None, False), (2, True), (4, False)])
def test_a_learning_curve_marks_where_the_second_phase_begins(first_phase: int | None, marked: bool) -> None:
    values = Metrics(loss=0.5, accuracy=0.8)
    history = History([EpochEnded(split="val", epoch=epoch, step=9 * epoch, values=values) for epoch in range(1, 5)])
    svg = figures.learning_curve(history, "loss", 3, first_phase)
    assert svg is not None and ("second phase begins" in texts(svg)) is marked


def test_colours_and_ids_belong_to_the_page() -> None:
    svg = figures.reliability_diagram(
        calibration(ConfidenceBins(np.array([4, 6]), np.array([3, 5]), np.array([2.0, 5.5])))
    )
    root = ElementTree.fromstring(svg)
    assert "var(--blue)" in svg and "var(--muted)" in svg
    for stand_in in (drawing.INK, drawing.MUTED, drawing.GRID, drawing.BLUE, drawing.ORANGE):
        assert stand_in not in svg
    assert "font-family" not in svg and not list(root.iter("style"))
    assert all(element.get("id", "reliability-").startswith("reliability-") for element in root.iter())
    assert root.get("viewBox") and root.get("width") is None and root.get("role") == "img"


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    figures.confusion_matrix(confusion(3), list("abc"))
    assert dict(matplotlib.rcParams) == before
