"""``make chaos``: runs that are disturbed at random moments, against one that is not: the same weights, bit for bit?

On a real ``local-cluster`` of two executors. Each run trains the same small network from the start; one fault strikes
it at a moment that its seed decides. Prints, for each kind of fault: how many ended by themselves with the same bits,
the seconds that the fault cost, and where they went; and what a cold start of the same job takes.
"""

import argparse
import contextlib
import hashlib
import itertools
import logging
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks import measure
from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.supervisor import run_ranks
from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import (
    AttemptStarted,
    Event,
    Failed,
    Phase,
    PhaseStarted,
    ProcessStarted,
    TrainProgressed,
)
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.dataset import prepare
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.spark.session import Session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WORKERS = 2
CLUSTER = ClusterConfig(
    name="chaos",
    master=f"local-cluster[{WORKERS},1,1024]",
    workers=WORKERS,
    stall_timeout=30.0,
    reconnect_timeout=8.0,
    slot_timeout=120.0,
    max_attempts=5,
)
_CUT_SECONDS = 5.0


@dataclass
class Observed:
    """What was seen of one run: the events that tell the time, and who works for rank 0 and rank 1."""

    crew: Crew
    checkpoints: Path
    pids: dict[int, int] = field(default_factory=dict)
    trained: list[tuple[float, int]] = field(default_factory=list)  # when which step had been taken
    struck: float | None = None
    failed: float | None = None  # the driver has heard of it
    restarted: float | None = None  # the next attempt began
    training: float | None = None  # the ranks train again
    stepped: float | None = None  # a step that had not been taken before

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case ProcessStarted():
                self.pids[event.rank] = event.pid
            case TrainProgressed():
                if self.struck and not self.stepped and event.step > max((s for _, s in self.trained), default=0):
                    self.stepped = now
                self.trained.append((now, event.step))
            case Failed() if self.struck and not self.failed:
                self.failed = now
            case AttemptStarted() if self.struck and not self.restarted:
                self.restarted = now
            case PhaseStarted(rank=0, phase=Phase.TRAIN) if self.restarted and not self.training:
                self.training = now


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _signal_rank(number: signal.Signals) -> Callable[[Observed, random.Random], None]:
    return lambda seen, chosen: os.kill(seen.pids[chosen.randrange(WORKERS)], number)


def _ancestor(seen: Observed, chosen: random.Random, generation: int) -> psutil.Process:
    """Of a rank: 0 is its warm process, 1 the Python worker of its agent, and so on."""
    return psutil.Process(seen.pids[chosen.randrange(WORKERS)]).parents()[generation]


def _kill_warm(seen: Observed, chosen: random.Random) -> None:
    _ancestor(seen, chosen, 0).kill()


def _kill_worker(seen: Observed, chosen: random.Random) -> None:
    _ancestor(seen, chosen, 1).kill()


def _signal_executor(number: signal.Signals) -> Callable[[Observed, random.Random], None]:
    def send(seen: Observed, chosen: random.Random) -> None:
        parents = psutil.Process(seen.pids[chosen.randrange(WORKERS)]).parents()
        next(process for process in parents if process.name() == "java").send_signal(number)

    return send


def _damage_checkpoint(seen: Observed, chosen: random.Random) -> None:
    """Change bytes of the newest checkpoint, and take the states in memory along: the one before must do."""
    newest = seen.checkpoints / checkpoint.LAST
    if newest.exists():
        with newest.open("r+b") as stream:
            stream.seek(newest.stat().st_size // 2)
            stream.write(b"\0damaged\0" * 8)
    _kill_worker(seen, chosen)


def _cut_line(seconds: float) -> Callable[[Observed, random.Random], None]:
    """Cut the control line of a rank's agent; whoever calls is not let in until ``seconds`` are over."""

    def cut(seen: Observed, chosen: random.Random) -> None:
        assert seen.crew._stage is not None
        agent = seen.crew._stage._server._agents[chosen.randrange(WORKERS)]
        session, agent.session = agent.session, "nobody"
        if agent.connected is not None:
            agent.connected.close()
        mend = threading.Timer(seconds, lambda: setattr(agent, "session", session))
        mend.daemon = True
        mend.start()

    return cut


FAULTS: dict[str, Callable[[Observed, random.Random], None]] = {
    "SIGKILL of a rank": _signal_rank(signal.SIGKILL),
    "SIGKILL of a warm process": _kill_warm,
    "SIGKILL of a Python worker": _kill_worker,
    "SIGKILL of an executor": _signal_executor(signal.SIGKILL),
    "SIGTERM of an executor": _signal_executor(signal.SIGTERM),
    "SIGTERM of a rank": _signal_rank(signal.SIGTERM),
    "SIGSTOP of a rank": _signal_rank(signal.SIGSTOP),
    "damaged newest checkpoint": _damage_checkpoint,
    f"control line cut for {_CUT_SECONDS:g} s": _cut_line(_CUT_SECONDS),
    "control line cut for good": _cut_line(3600.0),
}


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Arena:
    """One Spark session, one crew, one data set: runs of the same job, disturbed or not."""

    def __init__(self, spark: "SparkSession", scratch: Path, epochs: int) -> None:
        self._spark, self._scratch = spark, scratch
        self.crew = Crew(CLUSTER)
        self._runs = 0
        data = DataConfig(image_size=16)
        self._data = prepare.prepare(lambda: spark, data, str(scratch / "datasets"))
        train = TrainConfig(
            epochs=epochs, batch_size=64, deterministic=True, checkpoint_seconds=3.0, keep_checkpoints=3
        )
        self._config = Config(data=data, model=CnnConfig(filters=[8, 16], units=32), train=train, cluster=CLUSTER)

    def run(self, fault: str | None = None, chosen: random.Random | None = None, after: float = 0.0) -> Observed:
        """Train once, with a fault ``after`` seconds of training; what was seen. Raises whatever ends the run."""
        self._runs += 1
        folder = self._scratch / f"run-{self._runs}"
        folder.mkdir()
        manifest = self._data.manifest
        task = RankTask(self._config, self._data.path, manifest.fingerprint, str(folder), (Step.TRAIN,))
        seen = Observed(self.crew, folder / "checkpoints")

        def listen(event: Event) -> None:
            seen(event)
            if fault and chosen and not seen.struck and seen.trained and time.monotonic() - seen.trained[0][0] >= after:
                seen.struck = time.monotonic()
                FAULTS[fault](seen, chosen)

        run_ranks(self._spark, task, self.crew, listen)
        return seen

    def bits(self, seen: Observed) -> str:
        """A digest of every array of the last checkpoint."""
        with np.load(seen.checkpoints / checkpoint.LAST) as stored:
            digest = hashlib.sha256()
            for name in sorted(set(stored.files) - {"position.json"}):
                digest.update(name.encode() + stored[name].tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        self.crew.close()


@contextlib.contextmanager
def arena(epochs: int) -> Iterator[Arena]:
    """An arena in a folder of its own; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        session = Session(CLUSTER, Path(scratch, "session"))
        try:
            made = Arena(session.spark, Path(scratch), epochs)
            try:
                yield made
            finally:
                made.close()
        finally:
            session.stop()


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cost(seen: Observed) -> list[float] | None:
    """Seconds: all, until the driver knew, until all were stopped, until they trained again, until the new step."""
    times = [seen.struck, seen.failed or seen.restarted, seen.restarted, seen.training, seen.stepped]
    if any(moment is None for moment in times):
        return None
    known: list[Any] = times
    return [known[-1] - known[0], *(later - earlier for earlier, later in itertools.pairwise(known))]


def _row(fault: str, costs: list[list[float]], same: int, runs: int) -> list[str]:
    if not costs:
        return [fault, f"{same} of {runs}", *["–"] * 6]
    columns = list(zip(*costs, strict=True))
    p95 = sorted(columns[0])[min(len(costs) - 1, int(0.95 * len(costs)))]
    return [fault, f"{same} of {runs}", *(f"{statistics.median(c):.1f}" for c in columns), f"{p95:.1f}"]


def main(arguments: list[str] | None = None) -> int:
    """Disturb runs, print the table; 0 when every run ended by itself with the same bits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="disturbed runs in all (default: 100)")
    parser.add_argument("--only", choices=sorted(FAULTS), help="this fault alone")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of each run (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the victims (default: 1)")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    kinds = [given.only] if given.only else list(FAULTS)
    costs: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    same, runs, wrong = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0), 0
    with arena(given.epochs) as made:
        began = time.monotonic()
        undisturbed = made.run()
        cold = undisturbed.trained[0][0] - began
        lasted = undisturbed.trained[-1][0] - undisturbed.trained[0][0]
        expected = made.bits(undisturbed)
        for number in range(given.runs):
            kind = kinds[number % len(kinds)]
            chosen = random.Random(given.seed * 1_000_003 + number)
            after = chosen.uniform(0.0, 0.8 * lasted)
            measure.tell(f"chaos, run {number + 1} of {given.runs}: {kind} after {after:.1f} s of training")
            runs[kind] += 1
            try:
                seen = made.run(kind, chosen, after)
            except Exception as error:
                measure.tell(f"  it did not end by itself: {error}")
                wrong += 1
                continue
            equal = made.bits(seen) == expected
            same[kind] += equal
            wrong += not equal
            cost = _cost(seen)
            if cost:
                costs[kind].append(cost)
    measure.show(
        f"Runs of {lasted:.0f} s of training that were disturbed once; a cold start of the ranks takes {cold:.1f} s, "
        "Spark not counted. Seconds are medians",
        ["fault", "same bits", "cost", "noticed", "stopped", "started", "replayed", "p95 of cost"],
        [_row(kind, costs[kind], same[kind], runs[kind]) for kind in kinds],
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
