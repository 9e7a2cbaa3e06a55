"""The child process of a rank: its output, its end, and its parent's. A stand-in often plays the interpreter."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed_cls.barrier import rank_process as children
from distributed_cls.barrier.rank_process import Child, environment
from distributed_cls.barrier.relay import Line, Relay
from distributed_cls.config import Config, to_dict
from tests.patience import PATIENCE

_STAND_IN = """#!{python}
import json, os, signal, sys, time
events = os.fdopen(int(sys.argv[sys.argv.index("--events") + 1]), "w")
def emit(event, **values):
    print(json.dumps({{"event": event, "time": time.time(), **values}}), file=events, flush=True)
order = json.loads(sys.stdin.readline())
{body}
"""


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay("127.0.0.1")
    yield relay
    relay.close()


Start = Callable[[str], Child]


@pytest.fixture
def start(relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a child whose program is ``body``; it is ended with the test."""
    started: list[Child] = []

    def begin(body: str) -> Child:
        program = tmp_path / "stand-in"
        program.write_text(_STAND_IN.format(python=sys.executable, body=textwrap.dedent(body)), encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(children.sys, "executable", str(program))
        started.append(Child({"rank": 4, "text": "ä"}, dict(os.environ), Line(relay.address, relay.secret, 4)))
        return started[-1]

    yield begin
    for child in started:
        child.process.kill()
        child.process.wait()


def _events(relay: Relay, kind: str, count: int) -> list[dict[str, Any]]:
    """The next ``count`` events of a kind; others are dropped."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        event = relay.events.get(timeout=max(0.0, deadline - time.monotonic()))
        found += [event] if event["event"] == kind else []
    return found


def test_order_log_events_and_result_pass(start: Start, relay: Relay) -> None:
    child = start("""
        print("hello", order["text"], order["parent"])
        sys.stderr.buffer.write(b"not utf-8: \\xff\\n")
        emit("phase", name="train")
        emit("result", result={"accuracy": 0.5})
        sys.stdin.read()
        print("let go", flush=True)
    """)
    assert child.wait() is True
    assert child.result == {"accuracy": 0.5}
    assert child.process.poll() is None  # it stays until it may leave
    assert child.leave() == 0
    logs = [event["line"] for event in _events(relay, "log", 3)]
    assert sorted(logs) == sorted([f"hello ä {os.getpid()}", "not utf-8: \ufffd", "let go"])


def test_a_failure_is_kept_and_told(start: Start, relay: Relay) -> None:
    child = start("""
        emit("failure", kind="user", message="Expected this. Received: that.")
        sys.exit(2)
    """)
    assert child.wait() is False
    assert child.process.returncode == 2
    assert child.failure is not None and child.failure["message"] == "Expected this. Received: that."
    assert _events(relay, "failure", 1)[0]["rank"] == 4


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
    monkeypatch.setattr(children.sys, "executable", "/bin/false")
    child = Child({"padding": "x" * 2**20}, {}, Line(relay.address, relay.secret, 0))
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
    monkeypatch.setattr(children, "_TERM_SECONDS", 0.3)
    child = start(f"""
        emit("phase", name="ready")
        {stubborn}
        emit("phase", name="on")
        time.sleep(600)
    """)
    _events(relay, "phase", 1 if "STOP" in stubborn else 2)
    deadline = time.monotonic() + PATIENCE
    while "STOP" in stubborn and psutil.Process(child.process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.stop()
    assert child.process.returncode == -signal.SIGKILL


def test_the_environment_bounds_threads_and_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    given = environment('{"cluster": {}}', 3)
    assert given["TF_CONFIG"] == '{"cluster": {}}'
    assert {given[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
    here, elsewhere = given["PYTHONPATH"].split(os.pathsep)
    assert Path(here, "distributed_cls", "barrier", "rank_process.py").is_file()
    assert elsewhere == "/elsewhere"


# ── the real training module ────────────────────────────────────────────────────────────────────────────────────────


def test_a_real_rank_tells_what_the_user_can_mend(relay: Relay, tmp_path: Path) -> None:
    order = {"config": to_dict(Config()), "dataset": str(tmp_path / "nowhere"), "run_folder": str(tmp_path)}
    place = {"cluster": {"worker": ["127.0.0.1:0"]}, "task": {"type": "worker", "index": 0}}
    own = {**order, "work": ["train"], "rank": 0, "world": 1, "threads": 1}
    child = Child(own, environment(json.dumps(place), 1), Line(relay.address, relay.secret, 0))
    assert child.wait() is False
    assert child.process.returncode == 2
    assert child.failure is not None and child.failure["kind"] == "user"
    assert child.failure["message"].startswith("Expected a prepared dataset. Received: ")


_PARENT = """
import json, os, signal, sys
from distributed_cls.barrier.rank_process import Child, environment
from distributed_cls.barrier.relay import Line

address, secret, order = json.loads(sys.argv[1])
child = Child(order, environment("", 1), Line(tuple(address), secret, 0))
print(child.process.pid, flush=True)
child.wait()
"""


def test_a_real_rank_dies_with_its_parent(relay: Relay, tmp_path: Path) -> None:
    order = {"config": to_dict(Config()), "dataset": str(tmp_path), "rank": 0, "world": 1, "threads": 1}
    argument = json.dumps([relay.address, relay.secret, order])
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, argument], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        _events(relay, "heartbeat", 1)  # it runs, and imports TensorFlow
        parent.send_signal(signal.SIGKILL)
        queued: queue.Queue[dict[str, Any]] = relay.events
        assert process.wait(PATIENCE) is None or not process.is_running()
        while queued.get(timeout=PATIENCE)["event"] != "disconnected":
            continue
    finally:
        parent.kill()
        parent.communicate()
