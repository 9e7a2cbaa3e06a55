"""What is seen of a sweep while it goes on, and that no trial pays for it."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from distributed_cls.contracts import status as statuses
from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.status import State, Status
from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.evaluation.live_trials import live_table
from launch import sweep_view
from launch.sweep_state import Sweep
from launch.sweep_view import SweepView


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Of a trial that is done, and of one that runs in this process."""
    sweep = Sweep(tmp_path)
    sweep.put(TrialRow(0, {"train.seed": "0"}, str(tmp_path / "0"), val_accuracy=0.75, seconds=1.0))
    run(sweep, 1, os.getpid())
    return sweep


def run(sweep: Sweep, number: int, pid: int, state: State = State.RUNNING) -> None:
    folder = sweep.folder / str(number)
    folder.mkdir(exist_ok=True)
    sweep.begun(number, [f"train.seed={number}"], folder)
    now = time.time()
    train, val = Metrics(1.0, 0.5, images_per_second=1200.0), Metrics(1.0, 0.625)
    statuses.write(folder, Status("train", now, now, pid, state, "train", 1, 2, 4, 8, 9, 30.0, train, val))


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_page_follows_the_trials_and_says_at_the_end_that_they_are_over(sweep: Sweep) -> None:
    page = sweep.folder / "trials.html"
    view = SweepView(sweep, table=False)
    view.begin()
    wait(page.exists)
    assert 'http-equiv="refresh"' in page.read_text() and "62.5%" in page.read_text()
    view.end()
    assert 'http-equiv="refresh"' not in page.read_text()
    assert not any(path.name.startswith(".") for path in sweep.folder.iterdir())


def test_the_page_is_written_again_when_a_trial_ends(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_view, "_SECONDS", 0.01)
    page = sweep.folder / "trials.html"
    view = SweepView(sweep, table=False)
    view.begin()
    wait(page.exists)
    sweep.put(TrialRow(1, {"train.seed": "1"}, "", val_accuracy=0.8125, seconds=2.0))
    wait(lambda: "Best trial: 1" in page.read_text())
    view.end()


def test_a_page_that_cannot_be_written_is_said_once(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    (sweep.folder / "trials.html").mkdir()  # in the place of the file
    view = SweepView(sweep, table=False)
    with caplog.at_level(logging.WARNING, "launch"):
        view.begin()
        wait(lambda: bool(caplog.records))
        view.end()
    (record,) = caplog.records
    assert "trials.html" in record.getMessage() and "the sweep goes on" in record.getMessage()


def test_only_what_this_process_runs_counts_as_running(sweep: Sweep) -> None:
    run(sweep, 2, os.getpid() + 1)  # of a driver that was killed
    run(sweep, 3, os.getpid(), State.INTERRUPTED)
    sweep.begun(4, ["train.seed=4"], sweep.folder / "4")  # has no status yet
    assert list(sweep_view.running(sweep.rows)) == [1]


def test_the_table_is_bounded_and_fits_a_terminal(sweep: Sweep) -> None:
    for number in range(2, 40):
        status = TrialStatus.FAILED if number == 39 else TrialStatus.DONE
        accuracy = None if status is TrialStatus.FAILED else number / 100
        sweep.put(TrialRow(number, {"train.seed": str(number)}, "", status, accuracy, seconds=61.0, curve=[0.1]))
    run(sweep, 40, os.getpid())
    console = Console(width=80, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(live_table(sweep.rows, sweep_view.running(sweep.rows)))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[0] == "41 trials, 39 over, 2 running"
    assert [line.split()[0] for line in lines[2:]] == ["0", "37", "38", "39", "1", "40"]
    assert lines[2].split() == ["0", "0", "-", "75.0%", "-", "1.0", "s", "best"]
    assert lines[-1].split() == ["40", "40", "2/4", "62.5%", "1,200", "30", "s", "left"]
    assert all(len(line) <= 80 for line in lines)
