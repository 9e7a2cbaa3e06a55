"""The line between ranks and driver: who is let in, what passes, and what an end does to the other side."""

import contextlib
import json
import queue
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from distributed_cls.barrier import relay as relays
from distributed_cls.barrier.relay import Line, Relay
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


def _next(relay: Relay) -> dict[str, Any]:
    return relay.events.get(timeout=PATIENCE)


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
    lines = [Line(relay.address, relay.secret, rank) for rank in (0, 1)]
    for number in range(100):
        lines[number % 2].send({"event": "log", "line": f"ä\n{number}", "rank": 77})
    events = [_next(relay) for _ in range(100)]
    for rank in (0, 1):
        assert [event["line"] for event in events if event["rank"] == rank] == [f"ä\n{n}" for n in range(rank, 100, 2)]
    assert all(abs(event["time"] - time.time()) < 60 for event in events)
    lines[1].close()
    assert _next(relay) | {"time": 0} == {"event": "disconnected", "rank": 1, "time": 0}


def test_a_rank_with_another_secret_is_refused(relay: Relay) -> None:
    with pytest.raises(ConnectionError, match="does not know the secret of this run"):
        Line(relay.address, secrets.token_hex(32), 0)
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
    monkeypatch.setattr(relays, "_STRANGERS", 2)
    relay = Relay("127.0.0.1", handshake_seconds=3.0)
    began = time.monotonic()
    strangers = [socket.create_connection(relay.address, timeout=PATIENCE) for _ in range(5)]
    # A rank that comes after them is served all the same, when they have had their time.
    line = Line(relay.address, relay.secret, rank=3)
    assert time.monotonic() - began > 2 * 3.0 - 0.1  # two pairs went before it
    line.send({"event": "heartbeat"})
    assert _next(relay)["rank"] == 3
    line.close()
    for stranger in strangers:
        assert len(_end(stranger)) == 65  # a nonce and its line's end
    relay.close()


def test_an_over_long_greeting_ends_the_connection(relay: Relay) -> None:
    with socket.create_connection(relay.address) as stranger:
        stranger.sendall(b"0" * 1000)
        assert len(_end(stranger)) <= 65


def test_an_over_long_line_ends_the_connection(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays._Lines.read, "__defaults__", (1000,))
    line = Line(relay.address, relay.secret, 3)
    line.send({"event": "log", "line": "short"})
    line.send({"event": "log", "line": "x" * 2000})
    assert _next(relay)["line"] == "short"
    assert _next(relay)["event"] == "disconnected"
    assert line.hung_up.wait(PATIENCE)


def test_a_rank_that_dies_in_mid_line_is_only_disconnected(relay: Relay) -> None:
    line = Line(relay.address, relay.secret, 2)
    line.send({"event": "heartbeat", "step": 1})
    line._connection.sendall(b'{"event": "res')
    line._connection.shutdown(socket.SHUT_WR)
    assert [_next(relay)["event"] for _ in range(2)] == ["heartbeat", "disconnected"]


def test_hanging_up_is_seen_by_every_rank_and_stops_listening(relay: Relay) -> None:
    lines = [Line(relay.address, relay.secret, rank) for rank in range(3)]
    for line in lines:
        line.send({"event": "heartbeat", "step": 0})
    for _ in lines:
        _next(relay)
    relay.close()
    assert all(line.hung_up.wait(PATIENCE) for line in lines)
    with pytest.raises(ConnectionRefusedError):
        Line(relay.address, relay.secret, 0)
    lines[0].send({"event": "heartbeat", "step": 1})  # a dead line is no error
    with contextlib.suppress(queue.Empty):
        while True:
            assert relay.events.get_nowait()["event"] == "disconnected"


def test_the_driver_listens_on_its_one_address(relay: Relay) -> None:
    mine = [
        connection.laddr
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == relay.address[1]
    ]
    assert [address.ip for address in mine] == ["127.0.0.1"]
