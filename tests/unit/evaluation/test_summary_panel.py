"""The panel at the end of a run."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
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
    assert next_commands(run, evaluated=True) == [
        f"python -m launch job=predict model_dir={run.name} data.path=<images> output=<folder>",
        f"python -m launch job=serve model_dir={run.name}",
    ]
    (run / "report.html").touch()
    assert next_commands(run, evaluated=True)[0] == f"python -m webbrowser {(run / 'report.html').as_uri()}"


def test_a_run_that_only_trained_says_which_epoch_it_kept_and_how_to_evaluate_it(make_run: MakeRun) -> None:
    run = make_run(job="train", val=None, test=None)
    summary = summaries.read(run, "")
    assert "3 epochs (kept: 2)" in printed(summary, {}) and "validation" not in printed(summary, {})
    assert summary.train is not None
    known = dataclasses.replace(summary, train=dataclasses.replace(summary.train, val_accuracy=0.9333))
    assert "validation 93.3% in epoch 2" in printed(known, {})
    assert next_commands(Path("runs/a"), evaluated=False) == ["python -m launch job=evaluate model_dir=runs/a"]


@pytest.mark.parametrize(
    "folder",
    [
        "run 1 (ü) 車",
        "a=b",
        "a,b",
        "a#1",
        "it's",
        "a\\b",
        "a\\'b",
        "end\\",
        "${x} {y}",
        "[x]",
        'q"q',
        "a!b `c`",
        "null",
        "1e3",
    ],
)
def test_the_commands_work_for_any_name_of_the_folder(folder: str) -> None:
    """The shell and then the launcher's grammar read them back as they are."""
    (command,) = next_commands(Path(folder), evaluated=False)
    *_, override = shlex.split(command)
    read = OverridesParser.create().parse_override(override).value()
    assert getattr(read, "text", read) == folder


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


def test_attempts_name_their_workers_where_these_differ(make_run: MakeRun) -> None:
    failed = [
        {"number": 1, "cause": "stage", "message": "An executor was lost", "seconds": 42.0, "workers": 2},
        {"number": 2, "cause": "resized", "message": "Slots are back", "seconds": 17.0, "workers": 1},
    ]
    run = make_run(attempts=3, failed_attempts=failed, workers=2)
    text = printed(summaries.read(run, ""), evaluation_result.read(run, ""))
    assert "Attempt 1 with 2 of 2 workers ended after 42 s (stage): An executor was lost" in text
    assert "Attempt 2 with 1 of 2 workers ended after 17 s (resized): Slots are back" in text


def test_slow_ranks_are_named(make_run: MakeRun) -> None:
    run = make_run(slow_ranks=[{"rank": 1, "host": "10.0.0.7", "factor": 3.14}])
    text = printed(summaries.read(run, ""), evaluation_result.read(run, ""))
    assert "Rank 1 on 10.0.0.7 was 3.1 times as slow as the others" in text


def test_it_does_with_little() -> None:
    assert "model on images" in printed(summaries.Summary("pipeline", {}, {}), {})
