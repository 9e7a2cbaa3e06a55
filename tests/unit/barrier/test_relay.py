"""The line between ranks and driver: who is let in, what passes, and what an end does to the other side."""

import contextlib
import errno
import json
import queue
import secrets
import socket
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from distributed_cls.barrier import relay as relays
from distributed_cls.barrier.relay import DriverConnection, Relay
from distributed_cls.contracts.events import Disconnected, Event, Heartbeat, LogLine
from tests.patience import PATIENCE


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay("127.0.0.1", handshake_seconds=PATIENCE)
    yield relay
    relay.close()


@pytest.fixture
def strict() -> Iterator[Relay]:
    """Waits half a second for a stranger to prove who he is."""
    relay = Relay("127.0.0.1", handshake_seconds=0.5)
    yield relay
    relay.close()


def _next(relay: Relay) -> Event:
    return relay.events.get(timeout=PATIENCE)


def _kinds(relay: Relay, count: int) -> list[str]:
    return [_next(relay).kind for _ in range(count)]


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


def test_events_arrive_in_order_with_their_rank(relay: Relay) -> None:
    lines = [DriverConnection(relay.address, relay.secret, rank) for rank in (0, 1)]
    for number in range(100):
        lines[number % 2].send(LogLine(line=f"ä\n{number}", rank=77, time=1.0))
    events = [_next(relay) for _ in range(100)]
    for rank in (0, 1):  # the rank of the connection counts, and the clock of the driver, whatever a rank says
        lines_of_rank = [event.line for event in events if isinstance(event, LogLine) and event.rank == rank]
        assert lines_of_rank == [f"ä\n{n}" for n in range(rank, 100, 2)]
    assert all(abs(event.time - time.time()) < 60 for event in events)
    lines[1].close()
    gone = _next(relay)
    assert isinstance(gone, Disconnected) and gone.rank == 1


def test_a_rank_with_another_secret_is_refused(relay: Relay) -> None:
    with pytest.raises(ConnectionError, match="does not know the secret of this run"):
        DriverConnection(relay.address, secrets.token_hex(32), 0)
    assert relay.events.empty()


def test_the_secret_itself_is_never_sent(relay: Relay) -> None:
    """A stranger sees a nonce, and a proof over his own; echoing the driver's proof back proves nothing."""
    with socket.create_connection(relay.address) as stranger, stranger.makefile("rb") as lines:
        nonce = lines.readline()
        stranger.sendall(nonce)
        proof = lines.readline()
        stranger.sendall(proof)
        stranger.sendall(json.dumps({"event": "failure", "rank": 0}).encode() + b"\n")
        assert relay.secret.encode() not in nonce + proof + _end(stranger)
    assert relay.events.empty()


def test_a_silent_stranger_is_cut_off(strict: Relay) -> None:
    began = time.monotonic()
    with socket.create_connection(strict.address) as stranger:
        assert len(_end(stranger)) == 65  # its nonce
    assert time.monotonic() - began > 0.4


def test_a_stranger_who_sends_byte_after_byte_is_cut_off(strict: Relay) -> None:
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(strict.address) as stranger, pytest.raises(OSError):
        while time.monotonic() < deadline:
            stranger.sendall(b"0")
            time.sleep(0.02)


def test_a_crowd_of_strangers_takes_no_more_than_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "_MAX_UNAUTHENTICATED", 2)
    relay = Relay("127.0.0.1", handshake_seconds=3.0)
    began = time.monotonic()
    strangers = [socket.create_connection(relay.address, timeout=PATIENCE) for _ in range(5)]
    # A rank that comes after them is served all the same, when they have had their time.
    line = DriverConnection(relay.address, relay.secret, rank=3)
    assert time.monotonic() - began > 2 * 3.0 - 0.1  # two pairs went before it
    line.send(Heartbeat(step=1))
    assert _next(relay).rank == 3
    line.close()
    for stranger in strangers:
        assert len(_end(stranger)) == 65  # a nonce and its line's end
    relay.close()


def test_an_over_long_greeting_ends_the_connection(relay: Relay) -> None:
    with socket.create_connection(relay.address) as stranger:
        stranger.sendall(b"0" * 1000)
        assert len(_end(stranger)) <= 65


def test_an_over_long_line_ends_the_connection(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays._LineReader.read, "__defaults__", (1000,))
    line = DriverConnection(relay.address, relay.secret, 3)
    line.send(LogLine(line="short"))
    line.send(LogLine(line="x" * 2000))
    assert _kinds(relay, 2) == ["log", "disconnected"]
    assert line.closed.wait(PATIENCE)


def test_a_rank_that_dies_in_mid_line_is_only_disconnected(relay: Relay) -> None:
    line = DriverConnection(relay.address, relay.secret, 2)
    line.send(Heartbeat(step=1))
    line._connection.sendall(b'{"event": "res')
    line._connection.shutdown(socket.SHUT_WR)
    assert _kinds(relay, 2) == ["heartbeat", "disconnected"]


@pytest.mark.parametrize("sent", ['{"event": "melt", "v": 2}', "[]", "no json", '{"event": "heartbeat", "v": 2}'])
def test_what_is_no_event_ends_the_connection_of_its_rank_alone(relay: Relay, sent: str) -> None:
    odd, other = (DriverConnection(relay.address, relay.secret, rank) for rank in (0, 1))
    odd.send_line(sent)
    gone = _next(relay)
    assert isinstance(gone, Disconnected) and gone.rank == 0 and odd.closed.wait(PATIENCE)
    other.send(Heartbeat(step=1))
    assert _next(relay).rank == 1


def test_an_error_of_accept_does_not_end_the_relay(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files, for a moment: the next rank is served all the same."""

    class Exhausted:
        tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            Exhausted.tries += 1
            if Exhausted.tries <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return server.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(server, name)

    server = relay._server
    monkeypatch.setattr(relay, "_server", Exhausted())
    first = DriverConnection(relay.address, relay.secret, 0)  # the accept that was waiting before
    second = DriverConnection(relay.address, relay.secret, 1)
    for connection in (first, second):
        connection.send(Heartbeat(step=1))
        assert isinstance(_next(relay), Heartbeat)
    assert "Too many open files" in caplog.text


def test_hanging_up_is_seen_by_every_rank_and_stops_listening(relay: Relay) -> None:
    lines = [DriverConnection(relay.address, relay.secret, rank) for rank in range(3)]
    for line in lines:
        line.send(Heartbeat(step=0))
    for _ in lines:
        _next(relay)
    relay.close()
    assert all(line.closed.wait(PATIENCE) for line in lines)
    with pytest.raises(ConnectionRefusedError):
        DriverConnection(relay.address, relay.secret, 0)
    lines[0].send(Heartbeat(step=1))  # a dead line is no error
    with contextlib.suppress(queue.Empty):
        while True:
            assert isinstance(relay.events.get_nowait(), Disconnected)


def test_the_driver_listens_on_its_one_address(relay: Relay) -> None:
    mine = [
        connection.laddr
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == relay.address[1]
    ]
    assert [address.ip for address in mine] == ["127.0.0.1"]
