"""What the driver knows of each rank while a stage runs: who is where, at which step, and who has fallen silent."""

import time
from dataclasses import dataclass, field
from typing import Any

# A rank's process sends a heartbeat every 2 s; a machine under full load may be late by a few.
SILENCE_SECONDS = 30.0
_ECHO = "error"  # the kind of failure that another rank's may have caused


@dataclass
class RankState:
    """The last that was heard of a rank."""

    host: str = "?"
    phase: str = "starting"
    step: int = 0
    pid: int | None = None  # of the child process
    heard: float = field(default_factory=time.monotonic)
    failure: dict[str, Any] | None = None
    gone: float | None = None  # when its line was lost, monotonic seconds
    log: list[str] = field(default_factory=list)  # the last lines


class Watch:
    """Folds the events of all ranks into their states, and says when nothing moves any more."""

    def __init__(self, world: int, start_timeout: float, stall_timeout: float, log_tail: int) -> None:
        self.ranks = [RankState() for _ in range(world)]
        self._start_timeout, self._stall_timeout, self._log_tail = start_timeout, stall_timeout, log_tail
        self._moved = time.monotonic()

    def see(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        state = self.ranks[event["rank"]]
        kind = event["event"]
        if kind != "disconnected":  # which the driver's own end of the line says
            state.heard = time.monotonic()
        if kind == "phase":
            state.phase, state.host = event["name"], event.get("host", state.host)
            self._moved = state.heard
        elif kind == "started":
            state.pid, state.host = event["pid"], event["host"]
        elif kind == "heartbeat" and event["step"] > state.step:
            state.step = event["step"]
            self._moved = state.heard
        elif kind == "log":
            state.log = [*state.log[1 - self._log_tail :], event["line"]]
        elif kind == "evaluated":
            self._moved = state.heard
        elif kind == "failure":
            # Their order is that of arrival: the clocks of different hosts do not agree.
            state.failure = {**event, "time": state.heard}
        elif kind == "disconnected":
            state.gone = time.monotonic()

    def first_failure(self) -> int | None:
        """The rank that failed first: the others' failures are mostly its echo.

        An error can be that echo, and TensorFlow is quick to notice a lost peer; a refusal, a lost port or the end
        of a process cannot.
        """
        failures = [(state.failure, rank) for rank, state in enumerate(self.ranks) if state.failure]
        failed = [(failure["kind"] == _ECHO, failure["time"], rank) for failure, rank in failures]
        return min(failed)[2] if failed else None

    def cause_known(self) -> bool:
        """Whether a failure is there that is not another's echo."""
        return any(state.failure["kind"] != _ECHO for state in self.ranks if state.failure)

    def undecided(self, since: float) -> bool:
        """Whether a started rank was not heard ``since`` (monotonic seconds), and not missed for long enough either."""
        silent = self.silent()
        waiting = [rank for rank, state in enumerate(self.ranks) if state.pid and not state.failure]
        return any(self.ranks[rank].heard < since and rank not in silent for rank in waiting)

    def first_gone(self) -> int | None:
        """The rank whose line was lost first."""
        gone = [(state.gone, rank) for rank, state in enumerate(self.ranks) if state.gone is not None]
        return min(gone)[1] if gone else None

    def silent(self, seconds: float = 6.0) -> list[int]:
        """The started ranks of which nothing was heard for ``seconds``: three heartbeats."""
        now = time.monotonic()
        return [rank for rank, state in enumerate(self.ranks) if state.pid and now - state.heard > seconds]

    def stall(self) -> str | None:
        """A sentence naming the ranks that hold up the others, once nothing has moved for too long."""
        now = time.monotonic()
        at_work = any(state.step or state.phase == "evaluate" for state in self.ranks)
        started = at_work and all(state.pid is not None for state in self.ranks)
        limit = self._stall_timeout if started else self._start_timeout
        idle = now - self._moved
        if idle < limit:
            return None
        silent = [r for r, state in enumerate(self.ranks) if now - state.heard > min(SILENCE_SECONDS, limit / 2)]
        setting = "cluster.stall_timeout" if started else "cluster.start_timeout"
        where = "; ".join(self.describe(rank) for rank in silent or range(len(self.ranks)))
        who = "silent" if silent else "none is silent, all wait"
        return f"No rank made progress for {idle:.0f} s ({setting}={limit:g}); {who}: {where}"

    def describe(self, rank: int) -> str:
        """Where a rank is and what it last did."""
        state = self.ranks[rank]
        ago = time.monotonic() - state.heard
        process = f", pid {state.pid}" if state.pid else ""
        return f"rank {rank} on {state.host}{process}: {state.phase}, step {state.step}, last heard {ago:.0f} s ago"
