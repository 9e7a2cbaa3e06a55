"""An agent and its ranks, as the driver sees them: a real warm process, real ranks, no Spark."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from distributed_cls.barrier.agent import Agent, AgentPlace
from distributed_cls.barrier.control_line import ControlClient, ControlServer
from distributed_cls.barrier.rank_process import environment
from distributed_cls.config import Config
from distributed_cls.contracts.events import (
    Event,
    Failed,
    FailureKind,
    Heartbeat,
    LogLine,
    Met,
    PhaseStarted,
    ProcessEnded,
    ProcessStarted,
)
from distributed_cls.contracts.orders import DumpStacks, Leave, Meet, StartRank, StopRank
from distributed_cls.contracts.rank_task import RankAssignment, RankTask, Step, dump_assignment
from tests.patience import PATIENCE
from tests.shards import records, write_dataset

E = TypeVar("E", bound=Event)


class Served:
    """An agent of rank 0 that serves in a thread, and the driver's end of its line."""

    def __init__(self) -> None:
        self.server = ControlServer("127.0.0.1")
        place = AgentPlace(self.server.address, self.server.secret, 1, (), 30.0, None)
        self.client = ControlClient(place.address, place.secret, 0)
        self.agent = Agent(self.client, place)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.attempt = 0

    def _serve(self) -> None:
        try:
            self.agent.serve()
        finally:
            self.agent.close()

    def next(self, kind: type[E], suits: Callable[[E], bool] = lambda event: True) -> E:
        """The next event of a kind that suits; those before it are dropped."""
        deadline = time.monotonic() + PATIENCE
        while True:
            attempt, event = self.server.reports.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(event, kind) and suits(event):
                assert attempt in (self.attempt, -1)
                return event

    def start(self, dataset: Path, world: int = 1) -> psutil.Process:
        """Start a rank that trains; with a second rank that never comes, it waits for it for ever."""
        self.attempt += 1
        self.server.order(0, Meet(attempt=self.attempt, dataset=str(dataset), marker=str(dataset / "manifest.json")))
        port = self.next(Met).facts.port
        workers = [f"127.0.0.1:{port}", "127.0.0.1:9"][:world]
        task = RankTask(Config(), str(dataset), "1", str(dataset), (Step.TRAIN,))
        order = StartRank(
            attempt=self.attempt,
            job="job",
            assignment=dump_assignment(RankAssignment(task, 0, world)),
            tf_config=json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}),
            hosts=["127.0.0.1"],
        )
        self.server.order(0, order)
        return psutil.Process(self.next(ProcessStarted).pid)

    def stop(self, grace_seconds: float = 0.0) -> int:
        self.server.order(0, StopRank(attempt=self.attempt, grace_seconds=grace_seconds))
        return self.next(ProcessEnded).code

    def end(self) -> None:
        self.server.order(0, Leave(attempt=0))
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.server.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scratch = tmp_path_factory.mktemp("scratch")
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    served = Served()
    yield served
    served.end()
    assert list(scratch.iterdir()) == []  # nothing of any rank is left
    assert not [child for child in psutil.Process().children(recursive=True) if "distributed_cls" in _line(child)]
    tempfile.tempdir = before


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    parts = [records(count, seed=seed) for seed, count in enumerate([24, 9, 9])]
    write_dataset(folder, {"train": [parts[0]], "val": [parts[1]], "test": [parts[2]]})
    return folder


def _waiting_rank(served: Served, data: Path) -> psutil.Process:
    """A rank that waits for a second one, which never comes."""
    process = served.start(data, world=2)
    served.next(PhaseStarted, lambda event: event.phase.value == "cluster")
    return process


def test_a_rank_reports_what_the_user_can_fix(served: Served, tmp_path: Path) -> None:
    served.start(tmp_path / "nowhere")
    failed = served.next(Failed)
    assert failed.failure is FailureKind.USER and failed.message.startswith("Expected a prepared dataset. Received: ")
    assert served.next(ProcessEnded).code == 2


def test_ranks_are_forked_from_one_warm_process_and_killed_ones_are_named(served: Served, data: Path) -> None:
    parents = set()
    for _ in range(2):
        process = _waiting_rank(served, data)
        parents.add(process.ppid())
        os.kill(process.pid, signal.SIGKILL)
        failed = served.next(Failed)
        assert failed.failure is FailureKind.DIED
        assert failed.message == "its process ended with signal SIGKILL (out of memory?)"
        assert served.next(ProcessEnded).code == -signal.SIGKILL
    assert len(parents) == 1


def test_a_rank_that_is_stopped_is_no_failure(served: Served, data: Path) -> None:
    _waiting_rank(served, data)
    assert served.stop() == -signal.SIGKILL
    served.server.order(0, StopRank(attempt=served.attempt))  # there is none: the driver is told so
    assert served.next(ProcessEnded).code == 0


def test_a_rank_that_does_not_train_ends_at_once_when_asked_to(served: Served, data: Path) -> None:
    process = served.start(data, world=2)
    served.next(Heartbeat)
    os.kill(process.pid, signal.SIGSTOP)
    assert served.stop(grace_seconds=0.3) == -signal.SIGKILL  # it cannot heed it


def test_a_rank_that_is_stuck_shows_its_stacks(served: Served, data: Path) -> None:
    _waiting_rank(served, data)
    served.server.order(0, DumpStacks(attempt=served.attempt))
    served.next(LogLine, lambda event: "most recent call first" in event.line)
    served.next(LogLine, lambda event: "in perform" in event.line)
    served.stop()


def test_a_warm_process_that_is_killed_takes_its_rank_along_and_is_replaced(served: Served, data: Path) -> None:
    process = _waiting_rank(served, data)
    warm = process.ppid()
    os.kill(warm, signal.SIGKILL)
    assert served.next(Failed).failure is FailureKind.DIED
    served.next(ProcessEnded)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert _waiting_rank(served, data).ppid() != warm
    served.stop()


_AGENT = """
import json, sys
from distributed_cls.barrier.agent import Agent, AgentPlace
from distributed_cls.barrier.control_line import ControlClient

address, secret = json.loads(sys.argv[1])
place = AgentPlace(tuple(address), secret, 1, (), 30.0, None)
agent = Agent(ControlClient(place.address, place.secret, 0), place)
agent.serve()
"""


@pytest.mark.parametrize("gone", ["agent", "driver"])
def test_warm_process_and_rank_end_with_their_agent_and_with_the_driver(data: Path, gone: str) -> None:
    served = Served.__new__(Served)
    served.server, served.attempt = ControlServer("127.0.0.1"), 0
    argument = json.dumps([served.server.address, served.server.secret])
    parent = subprocess.Popen([sys.executable, "-c", _AGENT, argument])
    try:
        process = _rank_of_another_process(served, data)
        warm = psutil.Process(process.ppid())
        if gone == "agent":
            parent.kill()
        else:
            served.server.close()
        for left in (process, warm):
            left.wait(PATIENCE)
        if gone == "driver":
            assert parent.wait(PATIENCE) == 0
    finally:
        parent.kill()
        parent.wait()
        served.server.close()


def _rank_of_another_process(served: Served, data: Path) -> psutil.Process:
    deadline = time.monotonic() + PATIENCE
    while not served.server.ranks():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process = served.start(data, world=2)
    served.next(Heartbeat)
    return process


def test_the_environment_bounds_threads_and_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("no_proxy", "example.org")
    given = environment(3, (), '{"cluster": {}}', ["10.0.0.7", "10.0.0.8"])
    assert given["TF_CONFIG"] == '{"cluster": {}}'
    assert {given[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
    here, elsewhere = given["PYTHONPATH"].split(os.pathsep)
    assert Path(here, "distributed_cls", "barrier", "rank_process.py").is_file()
    assert elsewhere == "/elsewhere"
    assert given["no_proxy"] == "10.0.0.7,10.0.0.8,127.0.0.1,localhost,example.org"
    assert given["no_grpc_proxy"].startswith("10.0.0.7,10.0.0.8,")
    assert "TF_CONFIG" not in environment(3)
