"""The panel at the end of a run."""

from typing import Any

import pytest
from rich.console import Console

from distributed_cls.contracts import evaluation_result
from distributed_cls.contracts import summary as summaries
from distributed_cls.evaluation.summary_panel import next_commands, summary_panel

from .support import MakeRun


def printed(*arguments: Any) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_panel(*arguments))
    text = capture.get()
    assert all(len(line) <= 80 for line in text.splitlines())
    return " ".join(text.replace("│", " ").split())


def test_it_shows_what_came_out_and_where_it_is(
    make_run: MakeRun, digits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    (run / "model").mkdir()
    monkeypatch.chdir(run.parent)
    splits = evaluation_result.read(run, "")
    text = printed(summaries.read(run, ""), splits, run)
    correct = digits["test"]["correct"]
    assert f"test {100 * correct / 270:.1f}% of 270 images (95% CI" in text and "validation 9" in text
    assert "2 workers, 3 epochs (kept: 2), 30 steps, 2,534 images/s" in text
    assert "time 21 s" in text and "Spark 6.5 s" in text and "→" in text
    assert f"model {run.name}/model" in text and "report" not in text  # the report was not written here
    assert next_commands(run)[0] == f"python -m launch job=serve model_dir={run.name}"


def test_names_are_not_markup(make_run: MakeRun) -> None:
    names = ["[red]0", "[/]", "\x1b[31m", *map(str, range(3, 10))]
    run = make_run(names=names, model="[bold]m")
    text = printed(summaries.read(run, ""), evaluation_result.read(run, ""))
    assert "[bold]m on digits" in text and "\x1b" not in text


def test_attempts_that_failed_stay_visible(make_run: MakeRun) -> None:
    failed = [{"number": 1, "cause": "died", "message": "Rank 1 on node-7 failed in train", "seconds": 42.0}]
    run = make_run(attempts=2, failed_attempts=failed)
    text = printed(summaries.read(run, ""), evaluation_result.read(run, ""))
    assert "Attempt 1 ended after 42 s (died): Rank 1 on node-7 failed in train" in text


def test_it_does_with_little() -> None:
    assert "model on images" in printed(summaries.Summary("pipeline", {}, {}), {})
