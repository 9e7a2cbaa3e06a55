"""One line for whatever Hydra and OmegaConf raise, and the exit code of each ending."""

import os
import signal
import sys
import threading
from typing import Any

import pytest

from distributed_cls.errors import RunError, UserError
from launch import exit_codes, trial
from tests.patience import PATIENCE

from .conftest import Composed


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model=resnt", ["Expected model to be one of cnn, dense, resnet.", "Received: model=resnt."]),
        ("cluster=gpu5", ["gpu1, gpu4", "Received: cluster=gpu5."]),
        ("experiment=boats", ["cars, clothes, search", "experiment=boats"]),
        (
            "train.epoch=3",
            ["Expected train to have only: batch_size,", "Received: train.epoch.", "Did you mean train.epochs?"],
        ),
        ("model.unit=3", ["Expected model to have only: ", "model.unit", "Did you mean model.units?"]),
        ("modell=cnn", ["Received: modell"]),
        ("dataset_rot=/data", ["Received: dataset_rot", "dataset_root"]),
        ("train.epochs=many", ["Expected train.epochs", "many"]),
        ("train.flip=perhaps", ["Expected train.flip", "perhaps"]),
        ("train.epochs=null", ["Expected train.epochs"]),
        ("cluster=standalone", ["Expected cluster.master to be", "spark://host:port", "Set cluster.master=…"]),
        ("train.epochs=[", ["Expected key=value. Received: train.epochs=[."]),
        ("train.batch_size=1", ["Expected train.batch_size to be at least cluster.workers=2"]),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(composed: Composed, override: str, parts: list[str]) -> None:
    with pytest.raises(Exception) as raised:
        composed(override)
    line = exit_codes.one_line(raised.value)
    assert "\n" not in line and len(line) < 700
    assert "Traceback" not in line
    for part in parts:
        assert part in line, line


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> trial.State:
    state = trial.State()
    state.folder = tmp_path
    monkeypatch.setattr(exit_codes, "STATE", state)
    return state


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
    state: trial.State, capsys: pytest.CaptureFixture[str], error: Any, code: int, said: str
) -> None:
    session: Any = _Session()
    state.session = session

    def command() -> None:
        if error is not None:
            raise error

    assert exit_codes.code_of(command) == code
    assert session.stopped == 1
    assert said in capsys.readouterr().out


def test_sigterm_ends_the_run_cleanly(state: trial.State, capsys: pytest.CaptureFixture[str]) -> None:
    session: Any = _Session()
    state.session = session
    before = signal.getsignal(signal.SIGTERM)
    assert exit_codes.code_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert session.stopped == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert "terminated" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_finalizer_is_not_lost(
    state: trial.State, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
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
    assert exit_codes.code_of(command) == code
    assert sys.unraisablehook is hook
    assert "ignored" not in capfd.readouterr().err


def test_what_else_is_raised_in_a_finalizer_is_told_as_ever(
    state: trial.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def __del__(self) -> None:
            raise ZeroDivisionError

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    assert exit_codes.code_of(lambda: [Dying()].clear()) == 0
    assert [what.exc_type for what in told] == [ZeroDivisionError]
