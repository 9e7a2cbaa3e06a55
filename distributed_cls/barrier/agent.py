"""What a barrier task does: hold a warm process, and start, watch and end this rank's processes as the driver orders.

Runs in a Spark Python worker. Top-level and importable, so that Spark ships its name, not its code.
"""

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from distributed_cls.barrier import rendezvous
from distributed_cls.barrier.control_line import ControlClient
from distributed_cls.barrier.ports import held_port
from distributed_cls.barrier.rank_process import RankProcess, environment
from distributed_cls.barrier.warm_process import WarmProcess, WarmProcessGone, describe_exit
from distributed_cls.contracts import events
from distributed_cls.contracts.events import (
    Event,
    Failed,
    FailureKind,
    LogLine,
    Met,
    Phase,
    PhaseStarted,
    Preempted,
    ProcessEnded,
    ProcessStarted,
)
from distributed_cls.contracts.orders import DumpStacks, Leave, Meet, Order, ReleaseRank, StartRank, StopRank
from distributed_cls.errors import UserError

_POLL_SECONDS = 0.05
_RELEASE_SECONDS = 5.0  # for a process to go that has been let go
CHECKPOINT_SECONDS = 5.0  # for the ranks to write a checkpoint when the executor of one of them ends
_STATES = 2  # places in memory for a rank's latest states


@dataclass(frozen=True)
class AgentPlace:
    """What the driver tells every agent of a stage when Spark starts it."""

    address: tuple[str, int]  # of the control line
    secret: str
    threads: int  # CPU threads of each rank
    plugins: tuple[str, ...]  # modules that register models from outside the package
    reconnect_seconds: float
    warm_socket: str | None  # address of the warm process that all agents of a local master share
    ports: range | None = None  # for TensorFlow's server of a rank; None: any that is free


def run_agent(*, place: AgentPlace) -> str:
    """Serve as the agent of this barrier task's rank until the driver lets it go, or is gone."""
    # Only a Spark Python worker has it.
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    client = ControlClient(place.address, place.secret, context.partitionId(), place.reconnect_seconds)
    agent = Agent(client, place)
    try:
        with agent.heeding_signals():
            agent.serve()
    finally:
        agent.close()
    return ""


class Agent:
    """One rank's agent: obeys orders one after the other, and reports what its process does."""

    def __init__(self, client: ControlClient, place: AgentPlace) -> None:
        self._client, self._place = client, place
        self._host = rendezvous.own_address(place.address)
        self._attempt = 0
        self._port = contextlib.ExitStack()  # holds the port of the rendezvous
        self._job, self._states = "", list[int]()
        self._process: RankProcess | None = None
        self._kill_at: float | None = None  # monotonic seconds: the process was told to end
        self._preempted = False
        self._warm: WarmProcess | None = None
        self._warm = self._start_warm_process()

    def serve(self) -> None:
        """Obey the driver's orders until it lets this agent leave, or is gone, or this agent's executor ends."""
        while not self._preempted or self._process:
            try:
                order = self._client.orders.get(timeout=_POLL_SECONDS if self._process else None)
            except queue.Empty:
                self._watch()
                continue
            if order is None or isinstance(order, Leave):
                return
            self._obey(order)
            self._watch()

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Within the block the end of the executor lets the rank write a checkpoint. Use it in the main thread.

        An executor that ends sends SIGHUP to its Python workers, also when it was killed itself; whoever takes a whole
        node back sends SIGTERM to all processes of it.
        """
        numbers = (signal.SIGHUP, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Without a process there is nothing to save. A driver that is gone takes everything with it: a rank that goes
        # on would write into the next run.
        if self._process is None or not self._client.connected:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._preempted = True

    def close(self) -> None:
        """End the rank's process and the warm process; nothing of them is left."""
        if self._warm is not None:
            if self._process is not None:
                self._process.signal(signal.SIGKILL)
                self._process.wait(_RELEASE_SECONDS)
                self._process.clear()
            self._warm.close()
        self._port.close()
        self._forget_states()
        self._client.close()

    def _obey(self, order: Order) -> None:
        self._attempt = order.attempt
        match order:
            case Meet():
                self._meet(order)
            case StartRank():
                self._start(order)
            case StopRank() if self._process is None:
                self._report(ProcessEnded(code=0))
            case StopRank():
                self._end(signal.SIGTERM if order.grace_seconds else signal.SIGKILL, order.grace_seconds)
            case ReleaseRank() if self._process is not None:
                self._process.release()
                self._kill_at = time.monotonic() + _RELEASE_SECONDS
            case DumpStacks() if self._process is not None:
                self._process.signal(signal.SIGUSR1)

    def _meet(self, order: Meet) -> None:
        self._report(PhaseStarted(phase=Phase.RENDEZVOUS, host=self._host))
        self._port.close()
        try:
            port = self._port.enter_context(held_port(self._place.ports))
        except UserError as error:
            self._report(Failed(failure=FailureKind.USER, message=str(error)))
            return
        self._report(Met(facts=rendezvous.local_facts(self._host, port, order.dataset, order.marker)))

    def _start(self, order: StartRank) -> None:
        if order.job != self._job:
            self._forget_states()
            self._job = order.job
            self._states = [os.memfd_create("distributed_cls-state") for _ in range(_STATES)]
        place = self._place
        variables = environment(place.threads, place.plugins, order.tf_config, order.hosts)
        attempt = self._attempt

        def report(line: str) -> None:
            self._client.report(attempt, line)

        self._report(PhaseStarted(phase=Phase.TENSORFLOW))  # the import may not have ended
        given_up = self._client.closed.is_set
        try:
            if self._warm is None or self._warm.gone:
                self._warm = self._start_warm_process()
            self._process = RankProcess(self._warm, order.assignment, variables, self._states, report, given_up)
        except WarmProcessGone as error:
            self._report(Failed(failure=FailureKind.DIED, message=str(error)))
            return
        self._kill_at = None
        self._report(ProcessStarted(host=self._host, pid=self._process.pid))

    def _end(self, number: signal.Signals, grace_seconds: float) -> None:
        assert self._process is not None
        self._process.signal(number)
        self._kill_at = time.monotonic() + grace_seconds

    def _watch(self) -> None:
        """See whether the process has ended, or must."""
        process = self._process
        if process is None:
            return
        code = process.wait(0.0)
        if code is None:
            if self._preempted and self._kill_at is None:
                self._report(Preempted())
                self._end(signal.SIGTERM, CHECKPOINT_SECONDS)
            elif self._kill_at is not None and time.monotonic() >= self._kill_at:
                process.signal(signal.SIGKILL)
            return
        self._process = None
        process.clear()
        self._port.close()
        if not (process.finished or process.failed) and self._kill_at is None:
            how = f"its process ended with {describe_exit(code)}"
            self._report(Failed(failure=FailureKind.DIED, message=how))
        self._report(ProcessEnded(code=code))

    def _start_warm_process(self) -> WarmProcess:
        if self._warm is not None:
            self._warm.close()
        place = self._place
        shared = None if self._warm is not None else place.warm_socket  # a shared one that has ended stays so
        try:
            warm = WarmProcess(environment(place.threads, place.plugins), shared)
        except OSError:
            warm = WarmProcess(environment(place.threads, place.plugins))
        if warm.output is not None:
            threading.Thread(target=self._pass_on, args=(warm,), name="warm-log", daemon=True).start()
        return warm

    def _pass_on(self, warm: WarmProcess) -> None:
        assert warm.output is not None
        with contextlib.suppress(OSError, ValueError):  # closed
            for raw in warm.output:
                self._report(LogLine(line=raw.decode("utf-8", "replace").rstrip("\n")))

    def _forget_states(self) -> None:
        for descriptor in self._states:
            os.close(descriptor)
        self._states = []

    def _report(self, event: Event) -> None:
        self._client.report(self._attempt, events.dumps(event))
