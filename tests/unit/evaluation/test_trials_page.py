"""The page of a sweep: what it shows, also of odd trials and of a thousand, and while the sweep goes on."""

import dataclasses
import html.parser
import re
import statistics
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.status import Status
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.evaluation import parameter_importance, trial_figures, trials, trials_page
from distributed_cls.evaluation.trial_figures import Dot

ODD = ["<b>&\"'", "名前 ü", "nan", "null", "a\x00\u202eb"]


def row(trial: int, val: float | None, **other: Any) -> TrialRow:
    overrides = {"model": "dense" if trial % 2 else "cnn", "train.learning_rate": f"1e-{trial % 5}"}
    return dataclasses.replace(TrialRow(trial, overrides, "", val_accuracy=val, seconds=12.0), **other)


def many(count: int, epochs: int = 30) -> list[TrialRow]:
    random = np.random.default_rng(0)
    found = []
    for trial in range(count):
        rate, dropout, width = 10 ** random.uniform(-4, -1), random.uniform(0, 0.5), random.choice([16, 32, 64])
        best = 0.98 - 0.1 * (np.log10(rate) + 2.5) ** 2 - 0.02 * dropout + 0.005 * random.normal()
        curve = [float(np.clip(best * (1 - 0.5 ** (epoch + 1)), 0, 1)) for epoch in range(epochs)]
        overrides = {"train.learning_rate": f"{rate}", "model.dropout": f"{dropout}", "model.width": f"{width}"}
        status = TrialStatus.DONE if trial % 3 else TrialStatus.STOPPED
        reason = None if status is TrialStatus.DONE else "sweep.stop=asha: accuracy 0.4000 after epoch 3"
        kept = curve if status is TrialStatus.DONE else curve[:3]
        found.append(TrialRow(trial, overrides, "", status, max(kept), None, 1000, None, 9.0, reason, kept))
    return found


class Page(html.parser.HTMLParser):
    """Fails on a page that is not nested well; keeps its texts."""

    VOID = ("meta", "link", "br", "img", "path", "circle", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def figures(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_a_page_of_odd_names_is_well_formed_and_escaped(tmp_path: Path) -> None:
    rows = [
        row(index, 0.5 + index / 10, overrides={"data.name": name, "<i>": str(index)}) for index, name in enumerate(ODD)
    ]
    rows += [
        row(5, None, status=TrialStatus.FAILED, reason="</td><script>alert(1)</script>\nTraceback"),
        row(6, float("nan"), curve=[float("nan"), 0.5]),
        row(7, None, status=TrialStatus.UNFINISHED),
    ]
    trials_page.write_page(rows, tmp_path)
    text = (tmp_path / "trials.html").read_text()
    page = Page(text)
    assert (
        page.tags.count("script") == 1
        and "i" not in page.tags
        and "名前 ü" in text
        and "\x00" not in text
        and "Traceback" not in text
    )
    assert len(figures(text)) >= 2


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0, 0.5)],
        [row(0, None, status=TrialStatus.FAILED, reason="x")],
        [row(trial, 0.5, overrides={"train.seed": "1"}) for trial in range(3)],
        [row(trial, 0.5) for trial in range(3)],
    ],
    ids=["none", "one", "failed", "equal settings", "equal accuracies"],
)
def test_a_page_of_little(tmp_path: Path, rows: list[TrialRow]) -> None:
    page = trials_page.save(rows, tmp_path)
    Page(page.read_text())
    figures(page.read_text())


def test_dots_lie_where_the_numbers_say() -> None:
    dots = [Dot(3, 0.75, best=True), Dot(1, 0.5), Dot(2, 0.25, done=False), Dot(4, None)]
    axis = trials_page.axes.of_setting(["1", "10", "100", "1000"])
    assert axis is not None
    svg = ElementTree.fromstring(trial_figures.scatter(dots, axis, "rate"))
    found = {
        (circle.findtext("title") or "")[:2]: (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
        for circle in svg.iter("circle")
    }
    assert sorted(found) == ["#1", "#2", "#3"]
    assert found["#3"][0] < found["#1"][0] < found["#2"][0] and found["#3"][1] < found["#1"][1] < found["#2"][1]
    # Equal steps of the logarithm and of the accuracy are equal steps on the page.
    for along in (0, 1):
        assert found["#1"][along] == pytest.approx((found["#2"][along] + found["#3"][along]) / 2, abs=0.06)


def test_what_is_thinned_out_keeps_the_best_and_spreads_the_rest() -> None:
    assert trial_figures.thinned(5, 10) == [0, 1, 2, 3, 4]
    kept = trial_figures.thinned(1000, 60)
    assert len(set(kept)) == 60 and kept[:30] == list(range(30)) and kept[-1] == 999
    assert max(np.diff(kept[30:])) - min(np.diff(kept[30:])) <= 1


def test_a_thousand_trials_make_a_page_that_is_small_and_written_fast(tmp_path: Path) -> None:
    rows = many(1000)
    trials_page.write_page(rows[:10], tmp_path)  # imports Jinja
    began = time.process_time()
    trials_page.write_page(rows, tmp_path)
    assert time.process_time() - began < 3
    text = (tmp_path / "trials.html").read_text()
    assert len(text) < 1_000_000 and text.count("<tr") == 1001
    assert "60 of 1,000 curves are shown" in text and "200 of 1,000 trials are shown" in text
    Page(text)
    assert sum(len(list(svg.iter())) for svg in figures(text)) < 1500  # elements that a browser lays out


def test_while_the_sweep_goes_on_the_page_reloads_and_tells_how_trials_stand(tmp_path: Path) -> None:
    rows = [row(0, 0.9), row(1, None, status=TrialStatus.UNFINISHED, seconds=None)]
    status = Status(
        "train", 0.0, 1.0, 1, stage="train", epoch=3, epochs=9, seconds_left=65.0,
        train=Metrics(1.0, 0.5, images_per_second=1234.5), val=Metrics(1.0, 0.875),
    )  # fmt: skip
    trials_page.write_page(rows, tmp_path, {1: status})
    text = (tmp_path / "trials.html").read_text()
    assert '<meta http-equiv="refresh"' in text and "unfinished" not in text
    cells = re.findall(r'<td class="measure">(.*?)</td>', text)
    assert cells == ["3/9", "87.5%", "1,234", "1 min 05 s"]
    trials_page.write_page(rows, tmp_path)
    text = (tmp_path / "trials.html").read_text()
    assert 'http-equiv="refresh' not in text and "1 unfinished." in text


def test_the_command_of_the_best_trial_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    rows = [row(0, 0.9, overrides={"data.path": "'/a b'", "~data.seed": "", "model": "cnn"}), row(1, 0.8)]
    trials_page.write_page(rows, tmp_path)
    text = (tmp_path / "trials.html").read_text()
    found = re.search(r"<pre[^>]*>(.*?)</pre>", text)
    assert found is not None
    import html
    import shlex

    assert shlex.split(html.unescape(found.group(1))) == [
        *("python", "-m", "launch", "data.path='/a b'", "~data.seed", "model=cnn")
    ]


def test_repetitions_of_the_best_trial_measure_it_and_compete_with_nothing(tmp_path: Path) -> None:
    again = [0.91, 0.93, 0.95]
    seeds = [{"model": "cnn", "train.seed": str(seed)} for seed in (1, 2, 3)]
    repeated = [
        row(2 + index, val, test_accuracy=val - 0.1, overrides=seeds[index], refit_of=0)
        for index, val in enumerate(again)
    ]
    rows = [row(0, 0.92), row(1, 0.5), *repeated, row(5, 0.99, refit_of=1)]
    chosen, refit = trials.best(rows), trials.refitted(rows)
    assert chosen is not None and chosen.trial == 0 and trials.varied(rows) == ["model", "train.learning_rate"]
    assert refit is not None and refit.val == again
    mean, deviation = 100 * statistics.mean(again), 100 * float(np.std(again, ddof=1))
    assert f"Trial 0 again with 3 other seeds: validation {mean:.2f}% ± {deviation:.2f}" in trials.refit_words(refit)
    text = trials_page.save(rows, tmp_path).read_text()
    assert f"{mean:.2f}% ± {deviation:.2f}" in text and "trial 0 again, train.seed=3" in text
    assert trials.refitted(rows[:2]) is None and "±" not in trials.refit_words(trials.Refit(0, [0.5], []))


def test_importance_finds_the_setting_that_decides(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    rows = many(60)
    shares = parameter_importance.importance(rows, trials.varied(rows))
    assert shares[0][0] == "train.learning_rate" and shares[0][1] > 0.8
    assert sum(share for _, share in shares) == pytest.approx(1)
    assert parameter_importance.importance(rows[:9], trials.varied(rows)) == []
    assert "Importance of the settings" in trials_page.save(rows, tmp_path).read_text()


def test_without_optuna_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_importance, "is_installed", lambda: False)
    assert "[sweep]" in trials_page.save(many(12), tmp_path).read_text()
