"""The line between driver and agents: who is let in, what passes, what a cut costs, and what an end does."""

import contextlib
import errno
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from distributed_cls.barrier import control_line
from distributed_cls.barrier.control_line import ControlClient, ControlServer
from distributed_cls.contracts import events
from distributed_cls.contracts.events import Disconnected, Event, Heartbeat, LogLine
from distributed_cls.contracts.orders import Leave, StopRank
from tests.patience import PATIENCE

_GREETING = 32 + 32  # bytes that a stranger sees of the driver: its nonce, and its proof


@pytest.fixture
def server() -> Iterator[ControlServer]:
    server = ControlServer("127.0.0.1", handshake_seconds=PATIENCE)
    yield server
    server.close()


@pytest.fixture
def strict() -> Iterator[ControlServer]:
    """Waits half a second for a stranger to prove who he is."""
    server = ControlServer("127.0.0.1", handshake_seconds=0.5)
    yield server
    server.close()


def _agent(server: ControlServer, rank: int = 0, seconds: float = PATIENCE) -> ControlClient:
    return ControlClient(server.address, server.secret, rank, seconds)


def _say(agent: ControlClient, text: str, attempt: int = 1) -> None:
    agent.report(attempt, events.dumps(LogLine(line=text)))


def _next(server: ControlServer) -> tuple[int, Event]:
    return server.reports.get(timeout=PATIENCE)


def _lines(server: ControlServer, count: int) -> list[str]:
    found = [_next(server)[1] for _ in range(count)]
    return [event.line for event in found if isinstance(event, LogLine)]


def _cut(agent: ControlClient) -> None:
    """End the connection as a network does that is gone for a moment."""
    deadline = time.monotonic() + PATIENCE
    while (channel := agent._mailbox._channel) is None:  # it is just making a new one
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with contextlib.suppress(OSError):
        channel._connection.shutdown(socket.SHUT_RDWR)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _end(stranger: socket.socket) -> bytes:
    """All that the driver still sends, up to its hanging up."""
    stranger.settimeout(PATIENCE)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while block := stranger.recv(4096):
            received += block
    return received


# ── what passes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reports_arrive_in_order_with_their_rank_and_the_drivers_time(server: ControlServer) -> None:
    agents = [_agent(server, rank) for rank in (0, 1)]
    for number in range(100):
        agents[number % 2].report(7, events.dumps(LogLine(line=f"ä\n{number}", rank=77, time=1.0)))
    reports = [_next(server) for _ in range(100)]
    assert {attempt for attempt, _ in reports} == {7}
    for rank in (0, 1):  # the rank of the connection counts, and the clock of the driver, whatever a rank says
        lines = [event.line for _, event in reports if isinstance(event, LogLine) and event.rank == rank]
        assert lines == [f"ä\n{n}" for n in range(rank, 100, 2)]
    assert all(abs(event.time - time.time()) < 60 for _, event in reports)
    assert server.ranks() == {0, 1}


def test_orders_reach_their_agent_alone(server: ControlServer) -> None:
    first, second = _agent(server, 0), _agent(server, 1)
    server.order(1, StopRank(attempt=3, grace_seconds=2.5))
    server.order(0, Leave(attempt=3))
    assert second.orders.get(timeout=PATIENCE) == StopRank(attempt=3, grace_seconds=2.5)
    assert first.orders.get(timeout=PATIENCE) == Leave(attempt=3)


def test_an_agent_that_says_goodbye_is_lost_after_all_it_had_to_say(server: ControlServer) -> None:
    agent = _agent(server, 4)
    _say(agent, "last")
    agent.close()
    assert _lines(server, 1) == ["last"]
    attempt, event = _next(server)
    assert attempt == -1 and isinstance(event, Disconnected) and event.rank == 4
    assert server.ranks() == set()


# ── cuts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cut_loses_nothing_and_repeats_nothing_in_either_direction(server: ControlServer) -> None:
    agent = _agent(server)
    for number in range(3000):
        _say(agent, str(number))
        server.order(0, Leave(attempt=number))
        if number % 500 == 250:
            _cut(agent)
    assert _lines(server, 3000) == [str(number) for number in range(3000)]
    orders = [agent.orders.get(timeout=PATIENCE) for _ in range(3000)]
    assert [order.attempt for order in orders if order is not None] == list(range(3000))
    assert server.reports.empty() and agent.orders.empty() and not agent.closed.is_set()


def test_what_is_kept_for_a_driver_that_is_away_is_bounded(server: ControlServer) -> None:
    agent = _agent(server)
    agent._mailbox._max_bytes = 10_000
    server._closed.set()  # it lets nobody in any more
    _cut(agent)
    written = []

    def write() -> None:
        for number in range(50):
            _say(agent, "x" * 1000)
            written.append(number)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    _until(lambda: agent._mailbox._kept_bytes >= 10_000)
    assert len(written) < 20 and agent._mailbox._kept_bytes < 12_000
    agent.close()  # wakes the writer
    writer.join(PATIENCE)
    assert not writer.is_alive() and len(written) == 50


def test_an_agent_that_stays_away_is_lost_and_not_let_in_again() -> None:
    server = ControlServer("127.0.0.1", reconnect_seconds=0.5)
    agent = _agent(server, 3)
    agent.closed.set()  # it does not come back by itself
    _cut(agent)
    attempt, event = _next(server)
    assert attempt == -1 and isinstance(event, Disconnected) and event.rank == 3
    agent.closed.clear()
    assert agent._connect() is None
    server.close()


def test_another_process_cannot_take_the_place_of_an_agent(server: ControlServer) -> None:
    agent = _agent(server, 0)
    with pytest.raises(ConnectionError):
        _agent(server, 0)
    _say(agent, "still there")
    assert _lines(server, 1) == ["still there"]


def test_agents_notice_a_driver_whose_process_has_ended(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_line, "_REFUSED_SECONDS", 0.3)
    agent = _agent(server)
    server._closed.set()
    for connection in (server._server, server._agents[0].mailbox._channel._connection):  # type: ignore[union-attr]
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    assert agent.closed.wait(PATIENCE)
    assert agent.orders.get(timeout=PATIENCE) is None


def test_closing_is_seen_by_every_agent_and_stops_listening(server: ControlServer) -> None:
    agents = [_agent(server, rank) for rank in range(3)]
    server.close()
    for agent in agents:
        assert agent.orders.get(timeout=PATIENCE) is None and agent.closed.is_set()
    with pytest.raises(OSError):
        _agent(server, 5)


# ── strangers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_agent_with_another_secret_is_refused(server: ControlServer) -> None:
    with pytest.raises(ConnectionError, match="does not know the secret of this run"):
        ControlClient(server.address, secrets.token_hex(32), 0)
    assert server.reports.empty() and server.ranks() == set()


def test_the_secret_itself_is_never_sent(server: ControlServer) -> None:
    """A stranger sees a nonce, and a proof over his own; echoing the driver's proof back proves nothing."""
    with socket.create_connection(server.address) as stranger:
        nonce = stranger.recv(32)
        stranger.sendall(nonce)
        proof = stranger.recv(32)
        stranger.sendall(proof + b"\0\0\0\x02{}")
        seen = nonce + proof + _end(stranger)
    assert len(seen) == _GREETING and server.secret.encode() not in seen
    assert server.ranks() == set()


def test_a_silent_stranger_is_cut_off(strict: ControlServer) -> None:
    began = time.monotonic()
    with socket.create_connection(strict.address) as stranger:
        assert len(_end(stranger)) == 32  # its nonce
    assert time.monotonic() - began > 0.4


def test_a_stranger_who_sends_byte_after_byte_is_cut_off(strict: ControlServer) -> None:
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(strict.address) as stranger, pytest.raises(OSError):
        while time.monotonic() < deadline:
            stranger.sendall(b"0")
            time.sleep(0.02)


def test_a_crowd_of_strangers_takes_no_more_than_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_line, "_MAX_UNAUTHENTICATED", 2)
    server = ControlServer("127.0.0.1", handshake_seconds=3.0)
    began = time.monotonic()
    strangers = [socket.create_connection(server.address, timeout=PATIENCE) for _ in range(5)]
    # An agent that comes after them is served all the same, when they have had their time.
    agent = _agent(server, rank=3)
    assert time.monotonic() - began > 2 * 3.0 - 0.1  # two pairs went before it
    agent.report(1, events.dumps(Heartbeat(step=1)))
    assert _next(server)[1].rank == 3
    for stranger in strangers:
        assert len(_end(stranger)) == 32
        stranger.close()
    server.close()


def test_an_error_of_accept_does_not_end_the_line(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files, for a moment: the next agent is served all the same."""

    class Exhausted:
        tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            Exhausted.tries += 1
            if Exhausted.tries <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    real = server._server
    monkeypatch.setattr(server, "_server", Exhausted())
    agents = [_agent(server, rank) for rank in (0, 1)]  # the first meets the accept that was waiting before
    for agent in agents:
        _say(agent, "here")
    assert _lines(server, 2) == ["here", "here"]
    assert caplog.text.count("Too many open files") == 2


def test_the_driver_listens_on_its_one_address(server: ControlServer) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server.address[1]
    ]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize("sent", ['{"event": "melt", "v": 2}', "[]", "no json", '{"event": "heartbeat", "v": 2}'])
def test_what_is_no_report_passes_nothing_on(server: ControlServer, sent: str) -> None:
    odd, other = _agent(server, 0), _agent(server, 1)
    odd.report(1, sent)
    _say(other, "undisturbed")
    assert _lines(server, 1) == ["undisturbed"]
    with contextlib.suppress(queue.Empty):
        assert isinstance(server.reports.get_nowait()[1], Disconnected)
