"""The report as a browser would read it: whole, self-contained, escaped, and kind when something is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from distributed_cls.contracts import evaluation_result
from distributed_cls.contracts import summary as summaries
from distributed_cls.errors import UserError
from distributed_cls.evaluation.report import Report, write_report
from distributed_cls.evaluation.summary_panel import summary_panel

from .support import MakeRun, count

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}",
    "$x_1$ & co",
    "日本語 🐱",
    "العربية",
    "bell\x07 \x1b[31m",
    "right-to-left \u202eoverride",
    "lone \udc80 surrogate",
    "n" * 300,
]


class Page(HTMLParser):
    """Elements, attributes and text of a page; asserts that every element is closed in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_tells_the_numbers_of_the_run(make_run: MakeRun, digits: dict[str, Any]) -> None:
    page = Page(write_report(make_run()))
    correct = digits["test"]["correct"]
    assert f"{correct} of 270 images correct" in page.text and "Kept epoch 2" in page.text
    assert f"{100 * correct / 270:.1f}%" in page.text
    # The chart and the tile show one throughput, that of the summary.
    assert "Throughput 2,534 images/s in training steps" in page.text and "whole run 2,534" in page.text
    assert "cnn on digits" in page.text and "Workers 2" in page.text and "Wall time 21 s" in page.text
    assert "between stages 1.5 s" in page.text  # 21 less 6.5 and 13
    assert "1,520 images in 10 classes" in page.text and "No image was rejected" in page.text
    assert "python -m launch train.epochs=3" in page.text and "max_wait" not in page.text
    assert "batch_size 128" in page.text and "python 3.11.2" in page.text
    assert len(page.all("img")) == min(24, 270 - correct)
    shown = [attributes["aria-label"].split()[0] for attributes in page.all("svg") if attributes["aria-label"]]
    assert shown == ["loss", "accuracy", "learning", "throughput", "F1", "accuracy"]


def ringed(page: Page) -> list[int]:
    """The epochs whose points the accuracy chart marks twice: as one of the curve, and with the ring."""
    (chart,) = re.findall(r'<svg[^>]*aria-label="accuracy over the epochs.*?</svg>', page.source, re.DOTALL)
    assert "kept epoch</text>" in chart
    marks = re.findall(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)"', chart)
    ticks = [place for place, number in re.findall(r'x="([\d.]+)"[^>]*>(\d)</text>', chart)]
    return [ticks.index(place) + 1 for place, height in dict.fromkeys(marks) if marks.count((place, height)) == 2]


@pytest.mark.parametrize("kept", [1, 3])
def test_chart_tile_and_panel_agree_on_the_kept_epoch(make_run: MakeRun, kept: int) -> None:
    """Its accuracy alone does not tell: the last epoch of these has the highest."""
    trained = {"epochs": 3, "steps": 30, "best_epoch": kept, "loss": 0.1, "accuracy": 0.9}
    run = make_run(train={**trained, "learning_rate": 0.001, "images_per_second": 2534.2})
    page = Page(write_report(run))
    assert ringed(page) == [kept] and f"Kept epoch {kept}" in page.text
    console = Console(width=160)
    with console.capture() as panel:
        console.print(summary_panel(summaries.read(run, ""), evaluation_result.read(run, ""), run))
    assert f"(kept: {kept})" in panel.get()


def test_the_page_needs_nothing_outside_itself(make_run: MakeRun) -> None:
    page = Page(write_report(make_run()))
    assert not page.all("link") and not page.all("iframe")
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:  # links inside the page and inside its figures lead somewhere
        for link in (attributes.get("href") or "", attributes.get("clip-path") or ""):
            for target in re.findall(r"#([^)]+)", link if "base64" not in link else ""):
                assert target in ids


def test_names_of_classes_are_text_and_nothing_else(make_run: MakeRun, digits: dict[str, Any]) -> None:
    rejected = {
        "rejected": 3,
        "rejected_by_reason": {"<em>damaged": 3},
        "rejects": [{"path": "/data/<img src=y>.png", "reason": "<b>cut off</b>"}],
    }
    data = {"name": "<i>set</i>", "classes": HOSTILE, "counts": {}, "path": "", "fingerprint": "'\"><u>", **rejected}
    page = Page(write_report(make_run(names=HOSTILE, model="</title><s>", dataset=data, versions={"<u>": "<u>"})))
    assert len(page.all("script")) == 1 and not any(page.all(tag) for tag in ("b x", "i x", "s", "u"))
    assert [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)] == []
    for name in (*HOSTILE[:6], "<b>cut off</b>", "3 images: <em>damaged", "/data/<img src=y>.png", "<i>set</i>"):
        assert name in page.text
    assert "bell\ufffd \ufffd[31m" in page.text and "right-to-left \ufffdoverride" in page.text
    assert "lone \ufffd surrogate" in page.text and "\x07" not in page.source


@pytest.mark.parametrize("classes", [2, 3, 21, 150])
def test_any_number_of_classes(classes: int, make_run: MakeRun) -> None:
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes - 1, 600)  # the last class has no image
    scores = random.gumbel(size=(600, classes))
    scores[np.arange(600), labels] += 3
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    names = [f"model {index} of a maker with a very long name" for index in range(classes)]
    page = Page(write_report(make_run({"test": count("test", probabilities, labels)}, names=names)))
    table = page.source[page.source.index('<section id="classes">') : page.source.index('<section id="confidence">')]
    assert table.count("</tr>") == 1 + classes + 2  # the headings and the two averages
    assert any("confusion matrix" in str(attributes["aria-label"]) for attributes in page.all("svg")) == (classes > 20)
    assert ("Top-5 accuracy" in page.text) == (classes > 5)
    assert "This run kept no pictures" in page.text


@pytest.mark.parametrize(("names", "numbered"), [(["0", "1", "2"], False), (["a" * 30, "b", "c"], True)])
def test_classes_have_a_number_where_a_figure_shows_numbers(
    names: list[str], numbered: bool, make_run: MakeRun
) -> None:
    probabilities = np.full((30, 3), 0.05) + 0.85 * np.eye(3)[np.arange(30) % 3]
    page = Page(write_report(make_run({"test": count("test", probabilities, np.arange(30) % 3)}, names=names)))
    assert ("# Class Images" in page.text) == numbered


def test_the_report_shows_the_times_of_the_moment_when_it_is_written(make_run: MakeRun) -> None:
    """Drawing takes seconds; the page, the panel and the summary must agree on the time of the whole run."""
    run = make_run(seconds={"spark": 6.5, "train": 13.0})
    summary = summaries.read(run, "")
    report = Report(run, summary)
    report.draw()
    summary.seconds.update({"report": 2.0, "total": 34.2})
    page = Page(report.write())
    assert "Wall time 34 s" in page.text and "34 s from the command to this report" in page.text
    assert "report 2.0 s" in page.text


def test_a_perfect_test_split_says_so(make_run: MakeRun) -> None:
    probabilities = np.full((30, 3), 0.05) + 0.85 * np.eye(3)[np.arange(30) % 3]
    counts = count("test", probabilities, np.arange(30) % 3)
    page = Page(write_report(make_run({"test": counts}, names=["a", "b", "c"])))
    assert "100.0%" in page.text and "None: every image of the test split" in page.text
    assert "Every image of this split was classified correctly" in page.text


def test_a_run_without_events_or_facts_still_has_a_report(make_run: MakeRun) -> None:
    gaps: dict[str, Any] = {
        "seconds": {},
        "config": {},
        "versions": {},
        "train": None,
        "workers": None,
        "dataset": None,
        "command": "",
    }
    page = Page(write_report(make_run(epochs=0, **gaps)))
    assert "This run recorded no training events" in page.text
    assert "Where the time went" not in page.text and "python -m launch" not in page.text


def test_one_epoch_has_its_points(make_run: MakeRun) -> None:
    labels = [attributes["aria-label"] for attributes in Page(write_report(make_run(epochs=1))).all("svg")]
    assert labels[0] == "loss over the epochs: training ends at 2, validation ends at 2"


def test_val_is_reported_when_there_is_no_test(make_run: MakeRun, digits: dict[str, Any]) -> None:
    page = Page(write_report(make_run({"val": digits["val"]})))
    assert "Accuracy on the validation split" in page.text and "Validation accuracy" not in page.text


@pytest.mark.parametrize("image", ["no base64!", "aGVsbG8=", ""])
def test_a_mistake_without_a_readable_picture_is_still_listed(
    image: str, make_run: MakeRun, digits: dict[str, Any]
) -> None:
    mistakes = [
        {"image": image, "path": "/photos/beetle/<7>.jpg", "true": 3, "predicted": 99, "confidence": 0.5, "key": ""}
    ]
    page = Page(write_report(make_run({"test": {**digits["test"], "mistakes": mistakes}})))
    assert "no picture" in page.text and "class 99" in page.text and not page.all("img")
    assert "beetle/<7>.jpg" in page.text


@pytest.mark.parametrize("name", ["summary.json", "evaluation.json"])
@pytest.mark.parametrize("content", [None, "{", "[]" * 2])
def test_a_missing_or_damaged_file_is_named_with_its_remedy(name: str, content: str | None, make_run: MakeRun) -> None:
    run = make_run()
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(UserError, match=rf"Expected .*{name}.* Received: .*job=evaluate"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("evaluation", [{}, {"test": None}, [], {"test": 5}])
def test_an_evaluation_without_counts_is_refused(evaluation: Any, make_run: MakeRun) -> None:
    run = make_run()
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(UserError, match=r"evaluation\.json"):
        write_report(run)


def test_nothing_but_the_report_is_left_behind(make_run: MakeRun) -> None:
    run = make_run()
    before = {path.name for path in run.iterdir()}
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first  # the same files give the same page
    assert {path.name for path in run.iterdir()} == before | {"report.html"}
