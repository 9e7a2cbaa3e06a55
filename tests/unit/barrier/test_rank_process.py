"""The child process of a rank: its output, its end, and its parent's. A stand-in often plays the interpreter."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from distributed_cls.barrier import rank_process
from distributed_cls.barrier.rank_process import RankProcess, environment
from distributed_cls.barrier.relay import DriverConnection, Relay
from distributed_cls.config import Config
from distributed_cls.contracts.events import (
    Disconnected,
    Event,
    Failed,
    FailureKind,
    Heartbeat,
    LogLine,
    PhaseStarted,
)
from distributed_cls.contracts.rank_task import RankAssignment, RankResult, RankTask, Step, dump_assignment
from tests.patience import PATIENCE

E = TypeVar("E", bound=Event)

_STAND_IN = """#!{python}
import json, os, signal, sys, time
events = os.fdopen(int(sys.argv[sys.argv.index("--events") + 1]), "w")
def emit(event, **values):
    print(json.dumps({{"event": event, "v": 2, **values}}), file=events, flush=True)
assignment = json.loads(sys.stdin.readline())
{body}
"""


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay("127.0.0.1")
    yield relay
    relay.close()


Start = Callable[[str], RankProcess]


@pytest.fixture
def start(relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a child whose program is ``body``; it is ended with the test."""
    started: list[RankProcess] = []

    def begin(body: str) -> RankProcess:
        program = tmp_path / "stand-in"
        program.write_text(_STAND_IN.format(python=sys.executable, body=textwrap.dedent(body)), encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(rank_process.sys, "executable", str(program))
        started.append(
            RankProcess(json.dumps({"text": "ä"}), dict(os.environ), DriverConnection(relay.address, relay.secret, 4))
        )
        return started[-1]

    yield begin
    for child in started:
        child.process.kill()
        child.process.wait()


def _events(relay: Relay, kind: type[E], count: int) -> list[E]:
    """The next ``count`` events of a kind; others are dropped."""
    found: list[E] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        event = relay.events.get(timeout=max(0.0, deadline - time.monotonic()))
        found += [event] if isinstance(event, kind) else []
    return found


def test_order_log_events_and_result_pass(start: Start, relay: Relay) -> None:
    child = start("""
        print("hello", assignment["text"])
        sys.stderr.buffer.write(b"not utf-8: \\xff\\n")
        emit("phase", phase="train")
        emit("result", result={"train": None, "counts": {}})
        sys.stdin.read()
        print("let go", flush=True)
    """)
    assert child.wait() is True
    assert child.result == RankResult()
    assert child.process.poll() is None  # it stays until it may leave
    assert child.leave() == 0
    logs = [event.line for event in _events(relay, LogLine, 3)]
    assert sorted(logs) == sorted(["hello ä", "not utf-8: \ufffd", "let go"])


def test_a_failure_is_kept_and_told(start: Start, relay: Relay) -> None:
    child = start("""
        emit("failure", failure="user", message="Expected this. Received: that.")
        sys.exit(2)
    """)
    assert child.wait() is False
    assert child.process.returncode == 2
    assert child.failure is not None and child.failure.message == "Expected this. Received: that."
    assert _events(relay, Failed, 1)[0].rank == 4


def test_a_child_that_dies_at_once_or_in_mid_event_is_no_error_of_ours(start: Start) -> None:
    child = start("""
        events.write('{"event": "resu')
        events.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert child.wait() is False
    assert (child.process.returncode, child.result, child.failure) == (-signal.SIGKILL, None, None)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interpreter_that_cannot_start_is_no_error_of_ours(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_process.sys, "executable", "/bin/false")
    child = RankProcess("x" * 2**20, {}, DriverConnection(relay.address, relay.secret, 0))
    assert child.wait() is False
    assert child.process.returncode == 1


def test_a_child_ends_when_the_driver_hangs_up(start: Start, relay: Relay) -> None:
    child = start("time.sleep(600)")
    relay.close()
    assert child.wait() is False
    assert child.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    "stubborn", ["signal.signal(signal.SIGTERM, signal.SIG_IGN)", "os.kill(os.getpid(), signal.SIGSTOP)"]
)
def test_a_child_that_ignores_sigterm_is_killed(
    start: Start, relay: Relay, monkeypatch: pytest.MonkeyPatch, stubborn: str
) -> None:
    monkeypatch.setattr(rank_process, "_TERM_SECONDS", 0.3)
    child = start(f"""
        emit("phase", phase="model")
        {stubborn}
        emit("phase", phase="input")
        time.sleep(600)
    """)
    _events(relay, PhaseStarted, 1 if "STOP" in stubborn else 2)
    deadline = time.monotonic() + PATIENCE
    while "STOP" in stubborn and psutil.Process(child.process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.stop()
    assert child.process.returncode == -signal.SIGKILL


def test_the_environment_bounds_threads_and_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("no_proxy", "example.org")
    given = environment('{"cluster": {}}', 3, ["10.0.0.7", "10.0.0.8"])
    assert given["TF_CONFIG"] == '{"cluster": {}}'
    assert {given[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
    here, elsewhere = given["PYTHONPATH"].split(os.pathsep)
    assert Path(here, "distributed_cls", "barrier", "rank_process.py").is_file()
    assert elsewhere == "/elsewhere"
    assert given["no_proxy"] == "10.0.0.7,10.0.0.8,127.0.0.1,localhost,example.org"
    assert given["no_grpc_proxy"].startswith("10.0.0.7,10.0.0.8,")


# ── the real training module ────────────────────────────────────────────────────────────────────────────────────────


def _assignment(dataset: Path, parent_pid: int) -> RankAssignment:
    return RankAssignment(RankTask(Config(), str(dataset), "1", str(dataset), (Step.TRAIN,)), 0, 1, parent_pid)


def test_a_real_rank_reports_what_the_user_can_fix(relay: Relay, tmp_path: Path) -> None:
    place = {"cluster": {"worker": ["127.0.0.1:0"]}, "task": {"type": "worker", "index": 0}}
    line = dump_assignment(_assignment(tmp_path / "nowhere", os.getpid()))
    connection = DriverConnection(relay.address, relay.secret, 0)
    child = RankProcess(line, environment(json.dumps(place), 1, ["127.0.0.1"]), connection)
    assert child.wait() is False
    assert child.process.returncode == 2
    assert child.failure is not None and child.failure.failure is FailureKind.USER
    assert child.failure.message.startswith("Expected a prepared dataset. Received: ")


_PARENT = """
import dataclasses, json, os, sys
from distributed_cls.barrier.rank_process import RankProcess, environment
from distributed_cls.barrier.relay import DriverConnection
from distributed_cls.contracts.rank_task import dump_assignment, load_assignment

address, secret, line = json.loads(sys.argv[1])
own = dataclasses.replace(load_assignment(line), parent_pid=os.getpid())
child = RankProcess(dump_assignment(own), environment("", 1, []), DriverConnection(tuple(address), secret, 0))
print(child.process.pid, flush=True)
child.wait()
"""


def test_a_real_rank_dies_with_its_parent(relay: Relay, tmp_path: Path) -> None:
    argument = json.dumps([relay.address, relay.secret, dump_assignment(_assignment(tmp_path, 0))])
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, argument], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        _events(relay, Heartbeat, 1)  # it runs, and imports TensorFlow
        parent.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) is None or not process.is_running()
        _events(relay, Disconnected, 1)
    finally:
        parent.kill()
        parent.communicate()
