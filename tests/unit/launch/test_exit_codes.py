"""The exit code and the line of each ending, and what a refused command leaves."""

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import RunError, UserError
from launch import exit_codes, trial
from tests.patience import PATIENCE


@pytest.fixture
def launcher(tmp_path: Path) -> trial.Launcher:
    launcher = trial.Launcher()
    launcher.folder = tmp_path
    return launcher


class _Session:
    """Stands for a running Spark: notes whether it was stopped."""

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (UserError("Expected a [b]. Received: c."), 2, "error: Expected a [b]. Received: c."),
        (RunError("rank 1 failed"), 1, "error: rank 1 failed"),
        (ZeroDivisionError("x"), 1, "launch.log"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_ending_has_its_code_and_stops_spark(
    launcher: trial.Launcher, capsys: pytest.CaptureFixture[str], error: Any, code: int, said: str
) -> None:
    session: Any = _Session()
    launcher.spark.session = session

    def command() -> None:
        if error is not None:
            raise error

    assert exit_codes.code_of(command, launcher) == code
    assert session.stopped == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_end_the_run_cleanly(
    launcher: trial.Launcher, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    session: Any = _Session()
    launcher.spark.session = session
    before = signal.getsignal(number)
    assert exit_codes.code_of(lambda: os.kill(os.getpid(), number), launcher) == 143
    assert session.stopped == 1
    assert signal.getsignal(number) is before
    assert "terminated" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_finalizer_is_not_lost(
    launcher: trial.Launcher, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    """Python drops an exception that is raised there."""

    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            threading.Event().wait(PATIENCE)  # the handler interrupts it

    def command() -> None:
        Dying()
        threading.Event().wait(PATIENCE)  # as the run waits for Spark

    hook = sys.unraisablehook
    assert exit_codes.code_of(command, launcher) == code
    assert sys.unraisablehook is hook
    assert "ignored" not in capfd.readouterr().err


def test_what_else_is_raised_in_a_finalizer_is_told_as_ever(
    launcher: trial.Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def __del__(self) -> None:
            raise ZeroDivisionError

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    assert exit_codes.code_of(lambda: [Dying()].clear(), launcher) == 0
    assert [what.exc_type for what in told] == [ZeroDivisionError]


_PROGRAM = """
import sys, time
from launch import exit_codes, trial
from distributed_cls.errors import UserError

def command():
    print("begun", flush=True)
    sys.stdin.readline()
    time.sleep(float(sys.argv[1]))
    raise UserError("Expected a. Received: b.")

sys.exit(exit_codes.code_of(command, trial.Launcher()))
"""


def _start(seconds: float, **settings: Any) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(seconds)],
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.PIPE,
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **settings},
    )


def test_nohup_keeps_a_run_alive_and_a_closed_pipe_keeps_its_exit_code() -> None:
    """Behind ``nohup`` SIGHUP is ignored from the start; behind ``| head`` nobody reads the last line."""
    process = _start(0.0, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGHUP)
    process.stdout.close()
    _, errors = process.communicate(b"go on\n", timeout=PATIENCE)
    assert (process.returncode, errors) == (2, b"")


def test_a_terminal_that_is_closed_ends_the_run_with_its_code() -> None:
    """Every further line to such a terminal is an error of its own."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = _start(PATIENCE, stdin=theirs, stdout=theirs, start_new_session=True, preexec_fn=take_terminal)
    os.close(theirs)
    assert b"begun" in os.read(ours, 100)
    os.close(ours)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (143, b"")


def _refused() -> None:
    raise UserError("Expected a. Received: b.")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_what_the_owner_of_the_machine_can_put_right_is_one_line(
    number: int, launcher: trial.Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "/data/results")

    assert exit_codes.code_of(command, launcher) == 2
    said = capsys.readouterr().out
    assert f"Expected /data/results to be usable. Received: {os.strerror(number)}." in said and "Traceback" not in said


def test_a_refused_command_leaves_no_folder(tmp_path: Path) -> None:
    launcher = trial.Launcher()
    launcher.folder = folder = tmp_path / "runs" / "2026-01-01" / "12-00-00-digits-cnn"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "launch.log").touch()
    (tmp_path / "runs" / "2026-01-01" / "another").mkdir()
    assert exit_codes.code_of(_refused, launcher) == 2
    assert [path.name for path in (tmp_path / "runs" / "2026-01-01").iterdir()] == ["another"]


def test_of_a_folder_that_the_user_has_chosen_nothing_above_is_removed(tmp_path: Path) -> None:
    launcher = trial.Launcher()
    launcher.folder = folder = tmp_path / "mine" / "run"
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").touch()
    assert exit_codes.code_of(_refused, launcher) == 2
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_folder_with_anything_of_a_run_stays(tmp_path: Path) -> None:
    launcher = trial.Launcher()
    launcher.folder = folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "logs").mkdir()
    assert exit_codes.code_of(_refused, launcher) == 2
    assert (folder / "logs").is_dir()
    assert exit_codes.code_of(lambda: None, launcher) == 0


def test_a_sweep_that_is_not_over_names_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = trial.Launcher()
    sweep = launcher.sweep_in(tmp_path)
    (tmp_path / "multirun.yaml").touch()
    sweep.put(TrialRow(0, {}, "", TrialStatus.UNFINISHED, reason="sweep.time_budget=5 s is used up"))
    sweep.left_out = 2
    assert exit_codes.code_of(lambda: None, launcher) == 0
    said = capsys.readouterr().out
    assert f"-m resume={tmp_path}" in said and "2 did not begin" in said
    sweep.put(TrialRow(0, {}, "", TrialStatus.DONE, 0.5))
    sweep.left_out = 0
    assert exit_codes.code_of(lambda: None, launcher) == 0
    assert "resume=" not in capsys.readouterr().out


def test_latest_leads_to_the_last_trained_run(tmp_path: Path) -> None:
    runs = [tmp_path / "runs" / "2026-01-01" / name for name in ("one", "two", "predicted")]
    for run in runs:
        run.mkdir(parents=True)
        if run.name != "predicted":
            (run / "checkpoints").mkdir()
        trial._link_latest(run)
    assert (tmp_path / "runs" / "latest").resolve() == runs[1]
    trial._link_latest(tmp_path / "chosen" / "by" / "hand")
    assert not (tmp_path / "chosen").exists()
