"""The table of a sweep: order, columns, files and links."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distributed_cls.contracts import trials_table
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.evaluation import trials, trials_page


def row(trial: int, val: float | None, test: float | None = None, **other: Any) -> TrialRow:
    overrides = {"model": "dense" if trial % 2 else "cnn", "train.learning_rate": f"1e-{trial}", "train.epochs": "3"}
    made = TrialRow(trial, overrides, "", val_accuracy=val, test_accuracy=test, seconds=12.0)
    return dataclasses.replace(made, **other)


ROWS = [
    row(0, 0.90, 0.99),
    row(1, 0.99, None, status=TrialStatus.FAILED, reason="Expected a finite loss. [bold]Received[/bold]: nan <b>"),
    row(2, 0.95, 0.80),
    row(3, None),
    row(4, 0.95, 0.85),
]


def printed(rows: list[TrialRow], width: int = 80) -> list[str]:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(trials.render(rows))
    return capture.get().splitlines()


def test_val_accuracy_chooses_and_failures_come_last() -> None:
    assert [item.trial for item in trials.ranked(ROWS)] == [2, 4, 0, 3, 1]
    found = trials.best(ROWS)
    assert found is not None and found.trial == 2
    assert trials.best([ROWS[1], ROWS[3]]) is None


def test_a_trial_that_was_stopped_is_not_chosen_and_tells_its_reason(tmp_path: Path) -> None:
    stopped = row(5, 0.999, status=TrialStatus.STOPPED, reason="below the median")
    rows = [*ROWS, stopped, row(6, None, seconds=None, status=TrialStatus.UNFINISHED)]
    assert [item.trial for item in trials.ranked(rows)] == [2, 4, 0, 3, 5, 6, 1]
    found = trials.best(rows)
    assert found is not None and found.trial == 2
    text = " ".join(" ".join(printed(rows, 120)).split())
    assert "stopped: below the median" in text and "unfinished" in text
    page = trials_page.save(rows, tmp_path).read_text()
    assert "1 failed." in page and "1 stopped." in page and "stopped: below the median" in page


def test_only_what_varies_has_a_column() -> None:
    assert trials.varied(ROWS) == ["model", "train.learning_rate"]
    assert trials.varied(ROWS[:1]) == ["model", "train.learning_rate", "train.epochs"]
    assert trials.varied([row(0, 1.0), row(0, 1.0, overrides={})]) == list(ROWS[0].overrides)
    assert trials.headings(["train.seed", "data.seed", "train.epochs"]) == ["train.seed", "data.seed", "epochs"]


def test_the_table_fits_a_terminal_and_tells_the_reason() -> None:
    lines = printed(ROWS)
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "learning_rate" in text and "epochs" not in text
    assert "95.0% 80.0% 12 s best" in text and text.count("best") == 2  # in the title, and once in the table
    assert "[bold]Received[/bold]" in text and "failed:" in lines[-3] + lines[-4] + lines[-2] + lines[-1]


def test_accuracies_have_the_digits_that_the_trials_report_shows() -> None:
    text = " ".join(" ".join(printed([row(0, 0.9407, 0.9312, val_images=270, test_images=10_000)])).split())
    assert "94.1% 93.12%" in text


def test_a_single_trial_and_none() -> None:
    assert any("best" in line for line in printed(ROWS[:1])[1:])
    assert printed([])


def test_many_long_parameters_still_fit() -> None:
    values = [{f"group.parameter_{key}": "v" * 9 + str(trial) for key in range(9)} for trial in (0, 1)]
    wide = [row(trial, 0.5, overrides=values[trial]) for trial in (0, 1)]
    assert all(len(line) <= 80 for line in printed(wide))


def test_what_a_sampler_drew_is_shown_with_four_digits(tmp_path: Path) -> None:
    drawn = {"train.learning_rate": "0.0012520653814999472", "data.path": "/a/very/long/path"}
    text = " ".join(printed([row(0, 0.5, overrides=drawn)]))
    assert "0.001252" in text and "0.00125206" not in text and "path" in text
    assert (
        "0.0012520653814999472"
        in trials_page.save([row(0, 0.5, overrides=drawn)], tmp_path).with_name("trials.csv").read_text()
    )


def test_files_hold_every_trial(tmp_path: Path) -> None:
    page = trials_page.save(ROWS, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.html", "trials.json"]
    kept = trials_table.read(tmp_path)
    assert kept.best == 2 and kept.trials == [ROWS[number] for number in (2, 4, 0, 3, 1)]
    older = json.loads((tmp_path / "trials.json").read_text())
    for item in older["trials"]:
        del item["refit_of"]  # which version 4 has brought
    older |= {"schema_version": 3}
    (tmp_path / "trials.json").write_text(json.dumps(older))
    assert trials_table.read(tmp_path) == kept
    for item in older["trials"]:
        del item["curve"]  # which version 3 has brought
    for version in (2, 1):
        older |= {"schema_version": version}
        (tmp_path / "trials.json").write_text(json.dumps(older))
        assert trials_table.read(tmp_path) == kept
    del older["schema_version"]
    (tmp_path / "trials.json").write_text(json.dumps(older))
    assert trials_table.read(tmp_path) == kept
    (tmp_path / "trials.json").write_text(json.dumps(older | {"schema_version": trials_table.SCHEMA_VERSION + 1}))
    with pytest.raises(ValueError, match="schema version"):
        trials_table.read(tmp_path)
    with (tmp_path / "trials.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [item["trial"] for item in table] == ["2", "4", "0", "3", "1"]
    assert (table[0]["train.epochs"], table[0]["val_accuracy"], table[-1]["reason"]) == ("3", "0.95", ROWS[1].reason)
    text = page.read_text()
    assert "nan &lt;b&gt;" in text and "<b>" not in text and "<svg" in text


def test_links_lead_to_reports_that_exist_and_move_with_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "0 model=cnn#1"
    run.mkdir()
    (run / "report.html").write_text("")
    text = trials_page.save([row(0, 0.9, run=str(run)), row(1, 0.8, run=str(tmp_path / "gone"))], tmp_path).read_text()
    assert text.count("<a ") == 1 and 'href="./0%20model%3Dcnn%231/report.html"' in text
    assert str(tmp_path) not in text


def test_a_sweep_in_which_all_failed_has_a_page(tmp_path: Path) -> None:
    text = trials_page.save([ROWS[1]], tmp_path).read_text()
    assert "1 failed" in text and "<svg" not in text
