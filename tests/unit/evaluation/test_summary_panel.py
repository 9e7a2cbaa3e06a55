"""The panel at the end of a run."""

import json
from typing import Any

import pytest
from rich.console import Console

from distributed_cls.evaluation.summary_panel import summary_table

from .support import MakeRun


def printed(*arguments: Any) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table(*arguments))
    text = capture.get()
    assert all(len(line) <= 80 for line in text.splitlines())
    return " ".join(text.replace("│", " ").split())


def test_it_tells_what_came_out_and_where_it_is(
    make_run: MakeRun, digits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    (run / "model").mkdir()
    monkeypatch.chdir(run.parent)
    text = printed(json.loads((run / "summary.json").read_text()), digits, run)
    correct = digits["test"]["correct"]
    assert f"test {100 * correct / 270:.1f}% of 270 images (95%:" in text and "val 9" in text
    assert "2 workers, 3 epochs, 30 steps, 2,534 images/s" in text
    assert "time 21 s" in text and "Spark start 6.5 s" in text and "taken for" in text
    assert f"model {run.name}/model" in text and "report" not in text  # the report was not written here


def test_names_are_not_markup(make_run: MakeRun, digits: dict[str, Any]) -> None:
    names = ["[red]0", "[/]", "\x1b[31m", *map(str, range(3, 10))]
    summary = json.loads((make_run(names=names, model="[bold]m") / "summary.json").read_text())
    text = printed(summary, digits)
    assert "[bold]m on digits" in text and "\x1b" not in text


def test_it_does_with_little() -> None:
    assert "model on images" in printed({}, {})
