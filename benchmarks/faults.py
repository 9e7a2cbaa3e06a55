"""What can happen to a run: the faults of ``make chaos``, and what is seen of a run that they strike."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from distributed_cls.barrier.crew import Crew
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import (
    AttemptStarted,
    Event,
    Failed,
    Finished,
    Phase,
    PhaseStarted,
    Preempted,
    ProcessStarted,
    TrainProgressed,
)

WORKERS = 2
_CUT_SECONDS = 5.0
_FULL_SECONDS = 5.0
FULL_DISK = "full checkpoint disk"  # only where the run folder has a small disk of its own


@dataclass
class Observed:
    """What was seen of one run: the events that tell the time, and who works for rank 0 and rank 1."""

    crew: Crew
    checkpoints: Path
    pids: dict[int, int] = field(default_factory=dict)
    trained: list[tuple[float, int]] = field(default_factory=list)  # when which step had been taken
    struck: float | None = None
    failed: float | None = None  # the driver has heard of it
    preempted: bool = False  # an agent has asked its rank for a checkpoint, because its executor ends
    restarted: float | None = None  # the next attempt began
    training: float | None = None  # the ranks train again
    finished: bool = False  # a rank has its result
    stepped: float | None = None  # a step after that which had not been taken before

    @property
    def trained_seconds(self) -> float:
        """From the first report of training to the last one."""
        return self.trained[-1][0] - self.trained[0][0]

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case ProcessStarted():
                self.pids[event.rank] = event.pid
            case TrainProgressed():
                # Steps of ranks that have not heard of the fault yet are no recovery.
                if self.training and not self.stepped and event.step > max(step for _, step in self.trained):
                    self.stepped = now
                self.trained.append((now, event.step))
            case Preempted():
                self.preempted = True
            case Failed() if self.struck and not self.failed:
                self.failed = now
            case Finished():
                self.finished = True
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


def _damage(count: int | None) -> Callable[[Observed, random.Random], None]:
    """Change bytes of the ``count`` newest checkpoints (None: of all), and take the states in memory along: the one
    before must do, or the beginning."""

    def damage(seen: Observed, chosen: random.Random) -> None:
        for path in checkpoint.kept(seen.checkpoints)[:count]:
            with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:  # it is being moved on
                stream.seek(path.stat().st_size // 2)
                stream.write(b"\0damaged\0" * 8)
        _kill_worker(seen, chosen)

    return damage


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


def _fill_disk(seen: Observed, chosen: random.Random) -> None:
    """Fill the disk of the run folder; someone makes room again ``_FULL_SECONDS`` later."""
    filler = seen.checkpoints.parent / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"\0" * 2**16):
            continue
    mend = threading.Timer(_FULL_SECONDS, filler.unlink, kwargs={"missing_ok": True})
    mend.daemon = True
    mend.start()


FAULTS: dict[str, Callable[[Observed, random.Random], None]] = {
    "SIGKILL of a rank": _signal_rank(signal.SIGKILL),
    "SIGKILL of a warm process": _kill_warm,
    "SIGKILL of a Python worker": _kill_worker,
    "SIGKILL of an executor": _signal_executor(signal.SIGKILL),
    "SIGTERM of an executor": _signal_executor(signal.SIGTERM),
    "SIGTERM of a rank": _signal_rank(signal.SIGTERM),
    "SIGSTOP of a rank": _signal_rank(signal.SIGSTOP),
    "damaged newest checkpoint": _damage(1),
    "all checkpoints damaged": _damage(None),
    FULL_DISK: _fill_disk,
    f"control line cut for {_CUT_SECONDS:g} s": _cut_line(_CUT_SECONDS),
    "control line cut for good": _cut_line(3600.0),
}

Strike = Callable[[Observed], None]  # is called at every event, and decides whether it is time for a fault


def never(seen: Observed) -> None:
    """No fault."""


def once(fault: str, chosen: random.Random, after: float) -> Strike:
    """One fault, ``after`` seconds of training, unless the run is quicker."""

    def strike(seen: Observed) -> None:
        if not (seen.struck or seen.finished) and seen.trained and time.monotonic() - seen.trained[0][0] >= after:
            seen.struck = time.monotonic()
            FAULTS[fault](seen, chosen)

    return strike
