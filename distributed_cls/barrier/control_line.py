"""The control line between the driver and the agents of a crew: orders one way, reports the other.

The driver listens where Spark's own driver does (``spark.driver.bindAddress``), and the agents connect to the address
that its executors already reach it at (``spark.driver.host``). A connection that is cut, or silent, ends nothing: the
agent makes a new one, and what the other end does not have is sent again (``mailbox.py``). Only after
``reconnect_seconds`` is the other end given up: the driver takes the agent for lost, and the agent ends its rank.
"""

import json
import logging
import queue
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from distributed_cls.barrier import channel as channels
from distributed_cls.barrier.channel import AGENT, DRIVER, Channel
from distributed_cls.barrier.mailbox import KEEP_ALIVE_SECONDS, SILENCE_SECONDS, Mailbox
from distributed_cls.barrier.ports import listening
from distributed_cls.contracts import orders
from distributed_cls.contracts.events import Disconnected, Event, received
from distributed_cls.contracts.orders import Order

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 10.0
_MAX_UNAUTHENTICATED = 256  # connections at one time that have proved nothing; further ones wait in line
_ACCEPT_PAUSE_SECONDS = 0.2  # after an error of accept, such as too many open files
_RETRY_SECONDS = 0.2  # between two attempts of an agent to reach the driver
_REFUSED_SECONDS = 3.0  # of refusals only: nobody listens there any more, the driver's process has ended


@dataclass(frozen=True)
class _Greeting:
    """The first frame of an agent: who it is, and what it has. The answer is the number of what the driver has."""

    rank: int
    session: str  # of this agent's process
    received: int


class _Agent:
    """What the driver keeps of one agent."""

    def __init__(self, session: str, deliver: Callable[[str], None]) -> None:
        self.session = session
        self.mailbox = Mailbox(deliver)
        self.connected: Channel | None = None
        self.cut = time.monotonic()  # since when there is no connection, while ``connected`` is None
        self.lost = False


class ControlServer:
    """The driver's end. ``reports`` has (attempt, event) of every agent, with its rank and the driver's time.

    A lost agent is ``Disconnected``, of attempt -1. bind: the address to listen on, where it is not ``host``, at which
    the agents reach it; ports: those to choose from, any when None.
    """

    def __init__(
        self,
        host: str,
        reconnect_seconds: float = 30.0,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
        bind: str | None = None,
        ports: range | None = None,
    ) -> None:
        self._reconnect_seconds, self._handshake_seconds = reconnect_seconds, handshake_seconds
        self.secret = secrets.token_hex(32)
        self.reports: queue.Queue[tuple[int, Event]] = queue.Queue()
        self._server = listening(bind or host, ports)
        self.address: tuple[str, int] = (host, self._server.getsockname()[1])
        self._agents: dict[int, _Agent] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._unauthenticated = threading.Semaphore(_MAX_UNAUTHENTICATED)
        for target in (self._accept, self._keep_alive):
            threading.Thread(target=target, name="control-server", daemon=True).start()

    def ranks(self) -> set[int]:
        """The ranks whose agents have been heard of and are not lost."""
        with self._lock:
            return {rank for rank, agent in self._agents.items() if not agent.lost}

    def order(self, rank: int, order: Order) -> None:
        """Send an order to the agent of ``rank``; a lost one does not get it."""
        with self._lock:
            agent = self._agents.get(rank)
        if agent is not None and not agent.lost:
            agent.mailbox.post(orders.dumps(order))

    def close(self) -> None:
        """Say goodbye to every agent, which ends its rank, and stop listening."""
        with self._lock:
            self._closed.set()
            agents = list(self._agents.values())
        for agent in agents:
            agent.mailbox.say_goodbye()
            agent.mailbox.close()
        channels.shut_down(self._server)
        self._server.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._unauthenticated.acquire()
            try:
                connection, _ = self._server.accept()
            except OSError as error:
                self._unauthenticated.release()
                if not self._closed.is_set():  # too many open files, or a peer that has gone: the next may be an agent
                    log.warning("A connection to the driver could not be accepted: %s", error)
                    self._closed.wait(_ACCEPT_PAUSE_SECONDS)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control-agent", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        greeted = None
        try:
            greeted = self._greet(connection)
            if greeted is None:
                return
            channel, agent = greeted
            agent.mailbox.read(channel)
        except (OSError, ValueError, TypeError) as error:  # it broke, or brought what does not belong there
            log.debug("A connection of an agent ended: %s", error)
        finally:
            connection.close()
            if greeted is not None:
                self._cut(*greeted)

    def _greet(self, connection: socket.socket) -> tuple[Channel, _Agent] | None:
        """Let an agent in that proves in time that it knows the secret."""
        # Not a timeout of the socket: it would begin anew with each byte that arrives.
        limit = threading.Timer(self._handshake_seconds, channels.shut_down, [connection])
        limit.daemon = True
        limit.start()
        try:
            channel = channels.handshake(connection, self.secret, DRIVER, AGENT)
            frame = channel.receive() if channel else None
        finally:
            limit.cancel()
            self._unauthenticated.release()
        if channel is None or frame is None:
            return None
        connection.settimeout(SILENCE_SECONDS)
        greeting = _Greeting(**json.loads(frame))
        agent = self._agent(greeting)
        if agent is None:
            return None
        channel.send(b"%d" % agent.mailbox.received)
        with self._lock:
            agent.connected = channel
        agent.mailbox.attach(channel, greeting.received)
        return channel, agent

    def _agent(self, greeting: _Greeting) -> _Agent | None:
        """The agent that greets, whether new or known; None where another one has its place, or it was given up."""
        rank = greeting.rank
        with self._lock:
            if self._closed.is_set():
                return None
            if rank not in self._agents:
                self._agents[rank] = _Agent(greeting.session, lambda text: self._deliver(rank, text))
            agent = self._agents[rank]
            return agent if agent.session == greeting.session and not agent.lost else None

    def _deliver(self, rank: int, text: str) -> None:
        attempt, event = orders.load_report(text)
        self.reports.put((attempt, received(event, rank, time.time())))

    def _cut(self, channel: Channel, agent: _Agent) -> None:
        with self._lock:
            if agent.connected is channel:
                agent.connected, agent.cut = None, time.monotonic()

    def _keep_alive(self) -> None:
        while not self._closed.wait(KEEP_ALIVE_SECONDS):
            with self._lock:
                agents = list(self._agents.items())
            for rank, agent in agents:
                agent.mailbox.keep_alive()
                self._give_up_when_lost(rank, agent)

    def _give_up_when_lost(self, rank: int, agent: _Agent) -> None:
        late = agent.connected is None and time.monotonic() - agent.cut > self._reconnect_seconds
        if not agent.lost and (late or agent.mailbox.goodbye):
            agent.lost = True
            agent.mailbox.close()
            self.reports.put((-1, Disconnected(rank=rank, time=time.time())))


class ControlClient:
    """An agent's end. ``orders`` has the driver's orders; ``closed`` is set when the driver is gone for good,
    ``connected`` is false while it does not answer."""

    def __init__(self, address: tuple[str, int], secret: str, rank: int, reconnect_seconds: float = 30.0) -> None:
        self._address, self._secret, self._rank = address, secret, rank
        self._reconnect_seconds = reconnect_seconds
        self._session = uuid.uuid4().hex
        self.orders: queue.Queue[Order | None] = queue.Queue()  # None: closed
        self.closed = threading.Event()
        self.connected = False
        self._mailbox = Mailbox(lambda text: self.orders.put(orders.loads(text)))
        channel = self._connect()
        if channel is None:
            raise ConnectionError(f"the driver at {address[0]}:{address[1]} does not know the secret of this run")
        for target, arguments in ((self._read, (channel,)), (self._keep_alive, ())):
            threading.Thread(target=target, args=arguments, name="control-client", daemon=True).start()

    def report(self, attempt: int, event_line: str) -> None:
        """Send an event, as JSON text; waits while too many are kept for a driver that is away."""
        self._mailbox.post(orders.dump_report(attempt, event_line))

    def close(self) -> None:
        """Send what is left, as far as there is a connection, and say goodbye."""
        self._mailbox.say_goodbye()
        self._end()

    def _end(self) -> None:
        self._mailbox.close()
        if not self.closed.is_set():
            self.closed.set()
            self.orders.put(None)

    def _connect(self) -> Channel | None:
        """A connection on which both ends have greeted; None when the driver does not let this agent in."""
        connection = socket.create_connection(self._address, timeout=_HANDSHAKE_SECONDS)
        channel = channels.handshake(connection, self._secret, AGENT, DRIVER)
        if channel is None:
            connection.close()
            return None
        greeting = _Greeting(self._rank, self._session, self._mailbox.received)
        channel.send(json.dumps(vars(greeting)).encode())
        answer = channel.receive()
        if answer is None:
            channel.close()
            return None
        connection.settimeout(SILENCE_SECONDS)
        self._mailbox.attach(channel, int(answer))
        self.connected = True
        return channel

    def _read(self, channel: Channel | None) -> None:
        while channel is not None:
            try:
                self._mailbox.read(channel)
            except (OSError, ValueError) as error:
                log.debug("The connection to the driver ended: %s", error)
            self.connected = False
            channel.close()
            channel = None if self._mailbox.goodbye or self.closed.is_set() else self._reconnect()
        self._end()

    def _reconnect(self) -> Channel | None:
        """A new connection; None when the driver is gone."""
        cut = time.monotonic()
        answered = cut  # when anything but a refusal was seen last
        while not self.closed.wait(_RETRY_SECONDS):
            try:
                channel = self._connect()
                if channel is not None:
                    return channel
                answered = time.monotonic()
            except ConnectionRefusedError:
                if time.monotonic() - answered > _REFUSED_SECONDS:
                    return None
            except (OSError, ValueError) as error:
                log.debug("The driver could not be reached: %s", error)
                answered = time.monotonic()
            if time.monotonic() - cut > self._reconnect_seconds:
                return None
        return None

    def _keep_alive(self) -> None:
        while not self.closed.wait(KEEP_ALIVE_SECONDS):
            self._mailbox.keep_alive()
