"""What the driver knows of each rank while a stage runs: who is where, at which step, and who sends nothing."""

import time
from dataclasses import dataclass, field

from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.events import (
    Disconnected,
    Event,
    Failed,
    FailureKind,
    Heartbeat,
    LogLine,
    Phase,
    PhaseProgressed,
    PhaseStarted,
    Preempted,
    ProcessStarted,
)

# A rank's process sends a heartbeat every 2 s; a machine under full load may be late by a few.
SILENCE_SECONDS = 30.0
_LOG_TAIL = 40  # lines of a rank that an error carries

# The setting that limits the time without any progress in a phase. Work that takes long reports progress, which begins
# the limit anew; what cannot report it (imports, traces, downloads) has limits of its own.
_LIMITS = {
    Phase.STARTING: "rendezvous_timeout",
    Phase.RENDEZVOUS: "rendezvous_timeout",
    Phase.TENSORFLOW: "start_timeout",
    Phase.CLUSTER: "start_timeout",
    Phase.DATASET: "stall_timeout",
    Phase.MODEL: "first_step_timeout",
    Phase.INPUT: "first_step_timeout",
    Phase.TRACE: "first_step_timeout",
    Phase.TRAIN: "stall_timeout",
    Phase.EVALUATE: "stall_timeout",
    Phase.EXPORT: "stall_timeout",
    Phase.FINISH: "stall_timeout",
}


@dataclass
class RankState:
    """The last that a rank has reported."""

    host: str = "?"
    phase: Phase = Phase.STARTING
    step: int = 0
    pid: int | None = None  # of the rank's process
    heard: float = field(default_factory=time.monotonic)
    failure: Failed | None = None
    failed_at: float = 0.0  # monotonic seconds, of arrival
    preempted: bool = False  # its executor ends
    disconnected: float | None = None  # when its connection was lost, monotonic seconds
    log: list[str] = field(default_factory=list)  # the last lines


class RankMonitor:
    """Keeps the state of all ranks from their events, and tells when nothing moves any more."""

    def __init__(self, cluster: ClusterConfig, workers: int) -> None:
        """``workers``: the ranks of this attempt."""
        self.ranks = [RankState() for _ in range(workers)]
        self._cluster = cluster
        self._last_progress = time.monotonic()

    def update(self, event: Event) -> None:
        """Take in one event of a rank."""
        state, now = self.ranks[event.rank], time.monotonic()
        if not isinstance(event, Disconnected):  # which the driver's own end of the connection reports
            state.heard = now
        match event:
            case PhaseStarted():
                state.phase, state.host = event.phase, event.host or state.host
                self._last_progress = now
            case PhaseProgressed():
                self._last_progress = now
            case ProcessStarted():
                state.pid, state.host = event.pid, event.host
                self._last_progress = now
            case Heartbeat() if event.step > state.step:
                state.step = event.step
                self._last_progress = now
            case Preempted():
                state.preempted = True
            case LogLine():
                state.log = [*state.log[1 - _LOG_TAIL :], event.line]
            case Failed():
                # Their order is that of arrival: the clocks of different hosts do not agree.
                state.failure, state.failed_at = event, now
            case Disconnected():
                state.disconnected = now

    def first_failure(self) -> int | None:
        """The rank that failed first: the others' failures are mostly its consequence.

        An exception can be such a consequence, and TensorFlow is quick to notice a lost peer; a refusal, a lost port
        or the end of a process cannot.
        """
        failed = [
            (state.failure.failure is FailureKind.ERROR, state.failed_at, rank)
            for rank, state in enumerate(self.ranks)
            if state.failure
        ]
        return min(failed)[2] if failed else None

    def root_cause_known(self) -> bool:
        """Whether a failure is there that is not another's consequence."""
        return any(state.failure.failure is not FailureKind.ERROR for state in self.ranks if state.failure)

    def awaiting_reports(self, since: float) -> bool:
        """Whether a started rank sent nothing ``since`` (monotonic seconds), and is not silent for long enough yet."""
        silent = self.silent()
        waiting = [rank for rank, state in enumerate(self.ranks) if state.pid and not state.failure]
        return any(self.ranks[rank].heard < since and rank not in silent for rank in waiting)

    def preempted(self) -> set[int]:
        """The ranks whose executors end."""
        return {rank for rank, state in enumerate(self.ranks) if state.preempted}

    def interrupted(self) -> bool:
        """Whether a rank has said that it ended after a checkpoint, as it was asked to."""
        return any(state.failure.failure is FailureKind.INTERRUPTED for state in self.ranks if state.failure)

    def first_disconnected(self) -> int | None:
        """The rank whose connection was lost first."""
        gone = [(state.disconnected, rank) for rank, state in enumerate(self.ranks) if state.disconnected is not None]
        return min(gone)[1] if gone else None

    def silent(self, seconds: float = 6.0) -> list[int]:
        """The started ranks that sent nothing for ``seconds``: three heartbeats."""
        now = time.monotonic()
        return [rank for rank, state in enumerate(self.ranks) if state.pid and now - state.heard > seconds]

    def idle_seconds(self) -> float:
        """How long no rank has made progress."""
        return time.monotonic() - self._last_progress

    def stalled(self) -> str | None:
        """A sentence naming the ranks that hold up the others, once nothing has moved for too long."""
        now = time.monotonic()
        setting, limit = self._limit()
        idle = self.idle_seconds()
        if idle < limit:
            return None
        silent = [r for r, state in enumerate(self.ranks) if now - state.heard > min(SILENCE_SECONDS, limit / 2)]
        where = "; ".join(self.describe(rank) for rank in silent or range(len(self.ranks)))
        who = "no heartbeat from" if silent else "all ranks send heartbeats, none gets on:"
        return f"No rank made progress for {idle:.0f} s (cluster.{setting}={limit:g}); {who} {where}"

    def _limit(self) -> tuple[str, float]:
        """The setting that limits the present phases, and its seconds: the longest of the ranks that are behind."""
        order = list(Phase)
        behind = min((state.phase for state in self.ranks), key=order.index)
        setting = _LIMITS[behind]
        return setting, float(getattr(self._cluster, setting))

    def describe(self, rank: int) -> str:
        """Where a rank is and what it last did."""
        state = self.ranks[rank]
        ago = time.monotonic() - state.heard
        process = f", pid {state.pid}" if state.pid else ""
        return (
            f"rank {rank} on {state.host}{process}: {state.phase.value}, step {state.step}, last heard {ago:.0f} s ago"
        )

    def positions(self) -> str:
        """Where all ranks are, in a few words: those in the same place together."""
        places: dict[str, list[str]] = {}
        for rank, state in enumerate(self.ranks):
            place = state.phase.value + (f", step {state.step:,}" if state.step else "")
            places.setdefault(place, []).append(str(rank))
        return "; ".join(
            f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} in {place}" for place, ranks in places.items()
        )
