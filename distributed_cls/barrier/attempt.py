"""One attempt at a task on the agents of a stage: the ranks meet, start, are watched, and leave together."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from distributed_cls import storage
from distributed_cls.barrier import rendezvous
from distributed_cls.barrier.agent import CHECKPOINT_SECONDS
from distributed_cls.barrier.crew import Stage
from distributed_cls.barrier.diagnosis import last_informative_lines, without_stack_trace
from distributed_cls.barrier.monitor import RankMonitor
from distributed_cls.barrier.policy import AttemptStatus
from distributed_cls.barrier.slow_ranks import SlowRanks
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts import rank_task
from distributed_cls.contracts.events import (
    EpochEnded,
    Event,
    FailureKind,
    Finished,
    Heartbeat,
    Met,
    ProcessEnded,
    ProcessStarted,
    RankSlow,
)
from distributed_cls.contracts.orders import DumpStacks, Meet, ReleaseRank, StartRank, StopRank
from distributed_cls.contracts.rank_task import RankAssignment, RankResult, RankTask
from distributed_cls.errors import UserError

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_CONSEQUENCE_SECONDS = 1.0  # within which the root cause of an error mostly arrives
_QUIET_SECONDS = 10.0  # without progress, before a line tells where the ranks are
_STACKS_SECONDS = 2.0  # for ranks that are stuck to write where they stand
_STOP_SECONDS = 10.0  # for ranks that were killed to be gone
_GRACE_SECONDS = 12.0  # for ranks to write a checkpoint when the run is interrupted

Listener = Callable[[Event], None]


class AttemptFailed(Exception):
    """An attempt ended without a result."""

    def __init__(self, status: AttemptStatus) -> None:
        super().__init__(status.message)
        self.status = status


@dataclass(frozen=True)
class Job:
    """What the attempts have in common."""

    name: str  # by which agents tell the states of its ranks in memory
    task: RankTask

    @property
    def cluster(self) -> ClusterConfig:
        return self.task.config.cluster

    @property
    def epochs(self) -> int:
        """Of its phase."""
        train = self.task.config.train
        return train.epochs if self.task.first_phase is None else train.second_phase().epochs


class Attempt:
    """One attempt from start to end. ``run`` leaves the agents idle, or the stage dead."""

    def __init__(self, stage: Stage, job: Job, number: int, listen: Listener) -> None:
        self._stage, self._job, self._number, self._listen = stage, job, number, listen
        self._monitor = RankMonitor(job.cluster, stage.workers)
        self._slow = SlowRanks(stage.workers)
        self._met: dict[int, Met] = {}
        self._results: dict[int, RankResult] = {}
        self._running: set[int] = set()  # ranks whose processes have not ended
        self._silent: list[int] = []
        self._grows: AttemptStatus | None = None  # an epoch has ended, and the slots of more workers are back
        self._told_quiet = _QUIET_SECONDS  # of idle seconds, the next that is worth a line

    def run(self) -> RankResult:
        """The result of rank 0. Raises UserError for what the user can fix, AttemptFailed for anything else."""
        world = self._stage.workers
        try:
            self._until(lambda: len(self._stage.agents()) == world)
            with storage.marked(self._folder) as marker:
                path = storage.join(self._folder, marker)
                self._stage.order(Meet(attempt=self._number, dataset=self._job.task.dataset, marker=path))
                self._until(lambda: len(self._met) == world)
            self._start()
            self._until(lambda: len(self._results) == world)
        except BaseException as error:
            # Also on Ctrl-C and SIGTERM, which leave the ranks time for a checkpoint.
            self._stop(0.0 if isinstance(error, Exception) else _GRACE_SECONDS)
            raise
        self._stage.order(ReleaseRank(attempt=self._number))
        self._await_ends(_STOP_SECONDS)
        return self._results[0]

    @property
    def _folder(self) -> str:
        return self._job.task.run_folder

    def _start(self) -> None:
        """The second half of the rendezvous: all see the same, so all start."""
        task, world = self._job.task, len(self._met)
        everyone = [self._met[rank].facts for rank in range(world)]
        refusal = rendezvous.refusal(everyone, task.fingerprint, self._job.cluster.gpus_per_worker)
        if refusal:
            raise UserError(refusal)
        for rank in range(world):
            order = StartRank(
                attempt=self._number,
                job=self._job.name,
                assignment=rank_task.dump_assignment(RankAssignment(task, rank, world)),
                tf_config=rendezvous.tf_config(everyone, rank),
                hosts=[facts.host for facts in everyone],
            )
            self._stage.order(order, rank)
            self._running.add(rank)

    def _until(self, reached: Callable[[], bool]) -> None:
        """Pass on events until that is reached. Raises AttemptFailed when it will not be."""
        while not reached():
            self._take(_TICK_SECONDS)
            if self._monitor.first_failure() is not None:
                self._wait_for_root_cause()
                # Now: while the ranks are being ended every one falls silent.
                self._silent = self._monitor.silent()
                raise AttemptFailed(self._status_of_failure())
            lost = self._monitor.first_disconnected()
            if lost is not None or not self._stage.alive:
                self._take(_TICK_SECONDS)  # Spark may tell of a lost executor before its agent does
                written = self._last_checkpoint_written()
                raise AttemptFailed(self._status_of_failure() if written else self._status_of_stage())
            if self._grows:
                raise AttemptFailed(self._grows)
            stalled = self._monitor.stalled()
            if stalled:
                self._show_stacks()
                raise AttemptFailed(AttemptStatus(FailureKind.STALLED, stalled, self._furthest()))
            self._tell_when_quiet()

    def _take(self, timeout: float) -> bool:
        """Take in the next report, and pass on its event; False when there was none."""
        report = self._stage.report(timeout)
        if report is None:
            return False
        attempt, event = report
        if attempt in (self._number, -1):  # others are of an attempt before this one
            match event:
                case Met():
                    self._met[event.rank] = event
                case Finished():
                    self._results[event.rank] = event.result
                case ProcessStarted():
                    self._running.add(event.rank)
                case ProcessEnded():
                    self._running.discard(event.rank)
                case Heartbeat():
                    self._tell_when_slow(event)
                case EpochEnded(split="val") if event.epoch < self._job.epochs:
                    self._see_whether_to_grow(event)
            self._monitor.update(event)
            self._listen(event)
        return True

    def _tell_when_slow(self, event: Heartbeat) -> None:
        found = self._slow.update(event)
        if found:
            rank, factor = found
            self._listen(RankSlow(rank=rank, host=self._monitor.ranks[rank].host, factor=factor, time=time.time()))

    def _see_whether_to_grow(self, event: EpochEnded) -> None:
        """At the end of an epoch, whose checkpoint is written: an attempt with more workers loses nothing."""
        if self._stage.can_grow():
            message = f"Slots for {self._job.cluster.workers} workers are back, seen after epoch {event.epoch}"
            self._grows = AttemptStatus(FailureKind.RESIZED, message, event.step)

    def _last_checkpoint_written(self) -> bool:
        """Whether the ranks that a lost stage leaves behind have written a checkpoint; they may be on the way to it."""
        began = time.monotonic()
        while self._monitor.preempted() & self._running and time.monotonic() - began < CHECKPOINT_SECONDS:
            self._take(_TICK_SECONDS)
        while self._take(0.0):
            continue
        return self._monitor.interrupted()

    def _tell_when_quiet(self) -> None:
        """A line after 10 s without progress, after 20 s, 40 s, and so on."""
        idle = self._monitor.idle_seconds()
        if idle < _QUIET_SECONDS:
            self._told_quiet = _QUIET_SECONDS
        elif idle >= self._told_quiet:
            self._told_quiet *= 2
            log.info("No progress for %.0f s: %s", idle, self._monitor.positions())

    def _wait_for_root_cause(self) -> None:
        """Wait for what an error may follow from: another failure, or a rank that sends nothing any more."""
        began = time.monotonic()
        while not self._monitor.root_cause_known():
            if time.monotonic() - began >= _CONSEQUENCE_SECONDS and not self._monitor.awaiting_reports(began):
                return
            self._take(_TICK_SECONDS)

    def _show_stacks(self) -> None:
        """Let the ranks write where they stand to their logs: one of them holds up the others."""
        self._stage.order(DumpStacks(attempt=self._number))
        until = time.monotonic() + _STACKS_SECONDS
        while time.monotonic() < until:
            self._take(_TICK_SECONDS)

    def _stop(self, grace_seconds: float) -> None:
        """End the ranks' processes; when one does not end, or an agent is lost, the stage, and everything with it."""
        if self._running:
            self._stage.order(StopRank(attempt=self._number, grace_seconds=grace_seconds))
            if not self._await_ends(grace_seconds + _STOP_SECONDS):
                log.warning("Ranks that were ended are not gone; the stage is ended as well")
                self._stage.end()
        if len(self._stage.agents()) < self._stage.workers:
            self._stage.end()

    def _await_ends(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._running and self._stage.alive and time.monotonic() < until:
            self._take(_TICK_SECONDS)
            self._running -= set(range(self._stage.workers)) - self._stage.agents()
        return not self._running

    # ── how it ended ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _furthest(self) -> int:
        return max(state.step for state in self._monitor.ranks)

    def _status_of_stage(self) -> AttemptStatus:
        gone = self._monitor.first_disconnected()
        who = "no rank had started" if gone is None else f"first lost: {self._monitor.describe(gone)}"
        why = self._stage.why_ended() or "Its agent does not answer."
        return AttemptStatus(FailureKind.STAGE, f"The barrier stage failed ({who}). {why}", self._furthest())

    def _status_of_failure(self) -> AttemptStatus:
        """How the attempt ended, by the rank that failed first."""
        rank = self._monitor.first_failure()
        assert rank is not None
        state = self._monitor.ranks[rank]
        assert state.failure is not None
        kind, message = state.failure.failure, state.failure.message
        if kind in (FailureKind.USER, FailureKind.INTERRUPTED):  # their words need no more
            return AttemptStatus(kind, message[:1].upper() + message[1:], state.step)
        where = f"Rank {rank} on {state.host} failed in {state.phase.value}, step {state.step}"
        what = f"{where}: {without_stack_trace(message)}"
        silent = [other for other in self._silent if other != rank]
        if silent:  # the one that failed is then only the first that noticed
            what = f"No heartbeat from {'; '.join(self._monitor.describe(other) for other in silent)}. {what}"
        tail = [f"rank {rank} | {line}" for line in last_informative_lines(state.log)]
        rest = f"the rest: {self._folder}/logs/rank-{rank}.log"
        return AttemptStatus(kind, what, state.step, details=(*tail, rest))
