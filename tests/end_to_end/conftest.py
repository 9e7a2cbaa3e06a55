"""Real runs of the launcher: ``python -m launch`` in a process of its own, in a folder of its own."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import JOB_PATIENCE, PATIENCE

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Ended:
    """A run that has ended."""

    code: int
    output: str
    folder: Path | None  # its run folder, when there is exactly one

    @property
    def lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.strip()]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.lines if line.startswith("error:")]

    def json(self, name: str) -> Any:
        assert self.folder is not None, self.output
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The rows of a sweep's table, in the order in which they ran."""
        return sorted(self.json("trials.json")["trials"], key=lambda row: int(row["trial"]))

    @property
    def summary(self) -> dict[str, Any]:
        assert self.code == 0, self.output
        return dict(self.json("summary.json"))


class Launcher:
    """Starts the launcher with ``folder`` as working directory; prepared data go to ``datasets``."""

    within: Sequence[str] = ()  # what the command begins with, such as nsenter

    def __init__(self, folder: Path, datasets: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._datasets = datasets
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._started = 0

    def start(self, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
        """The running launcher, and the run (or sweep) folder that it will use."""
        self._started += 1
        resumed = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
        runs = Path(resumed[0]) if resumed else self.folder / f"run-{self._started}"
        # Flags come first for argparse; of two values for a setting the later one, the test's, wins.
        flags = [argument for argument in arguments if argument.startswith("-")]
        chosen = [argument for argument in arguments if argument not in flags]
        given = [f"dataset_root={self._datasets}"]
        given += [] if resumed else [f"hydra.run.dir='{runs}'", f"hydra.sweep.dir='{runs}'"]
        # What a user's machine does in seconds can take minutes where several runs share two cores.
        given += [f"cluster.{name}_timeout={PATIENCE}" for name in ("rendezvous", "start", "first_step")]
        process = subprocess.Popen(
            [*self.within, sys.executable, "-m", "launch", *flags, *given, *chosen],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, runs

    def __call__(self, *arguments: str) -> Ended:
        """Run to the end."""
        return self.end(*self.start(*arguments))

    def end(self, process: "subprocess.Popen[str]", runs: Path) -> Ended:
        try:
            output, _ = process.communicate(timeout=JOB_PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=PATIENCE)
            pytest.fail(f"not ended after {JOB_PATIENCE:g} s:\n{output}")
        return Ended(process.returncode, output, runs if runs.is_dir() else None)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for prepared data sets, so that the digits are prepared once for all tests."""
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture
def launch(tmp_path: Path, datasets: Path) -> Iterator[Launcher]:
    yield Launcher(tmp_path, datasets)
    assert processes_of(tmp_path) == []


@pytest.fixture(scope="module")
def launch_once(tmp_path_factory: pytest.TempPathFactory, datasets: Path) -> Callable[..., Ended]:
    """The launcher for fixtures that many tests of a module look at."""
    return Launcher(tmp_path_factory.mktemp("module"), datasets)


def processes_of(folder: Path, patience: float = PATIENCE) -> list[str]:
    """Command lines of processes that still mention ``folder`` or work in it, after at most ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        left = []
        for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
            words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
            if process.pid != os.getpid() and any(str(folder) in word for word in words):
                left.append(" ".join(words)[:200])
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true value of ``condition``, within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return value
