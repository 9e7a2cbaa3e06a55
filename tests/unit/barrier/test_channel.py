"""Frames that were made up, changed, repeated, left out, turned round or recorded elsewhere are never read."""

import random
import socket
import struct
import threading
from collections.abc import Iterator

import psutil
import pytest

from distributed_cls.barrier import channel as channels
from distributed_cls.barrier.channel import AGENT, DRIVER, Channel, ChannelError, handshake
from tests.patience import PATIENCE

SECRET = "a secret of the test"


def _pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(PATIENCE)
    return ends


def _greeted(ends: tuple[socket.socket, socket.socket]) -> tuple[Channel, Channel]:
    """The channels of driver and agent."""
    found: dict[bytes, Channel | None] = {}
    thread = threading.Thread(target=lambda: found.setdefault(AGENT, handshake(ends[1], SECRET, AGENT, DRIVER)))
    thread.start()
    driver = handshake(ends[0], SECRET, DRIVER, AGENT)
    thread.join()
    agent = found[AGENT]
    assert driver is not None and agent is not None
    return driver, agent


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = _pair()
    yield ends
    for end in ends:
        end.close()


def _recorded(body: bytes) -> bytes:
    """The bytes of a frame from an agent on a connection of its own."""
    here = _pair()
    _, agent = _greeted(here)
    agent.send(body)
    recorded = here[0].recv(2**16)
    for end in here:
        end.close()
    return recorded


def test_frames_of_any_length_pass_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    driver, agent = _greeted(ends)
    bodies = [b"", b"x", bytes(range(256)), b"y" * 300_000]
    writer = threading.Thread(target=lambda: [agent.send(body) for body in bodies])
    writer.start()
    assert [driver.receive() for _ in bodies] == bodies
    writer.join()
    driver.send(b"order")
    assert agent.receive() == b"order"
    agent.close()
    assert driver.receive() is None


@pytest.mark.parametrize("attack", ["repeated", "left out", "turned round", "recorded elsewhere"])
def test_a_frame_is_read_once_in_its_place_and_direction(
    ends: tuple[socket.socket, socket.socket], attack: str
) -> None:
    driver, agent = _greeted(ends)
    agent.send(b"first")
    frame = ends[0].recv(2**16)
    if attack == "repeated":
        ends[1].sendall(frame * 2)
        assert driver.receive() == b"first"
    elif attack == "left out":
        agent.send(b"second")
    elif attack == "turned round":
        driver.send(b"order")
        ends[1].sendall(ends[1].recv(2**16))
    else:
        ends[1].sendall(_recorded(b"first"))
    with pytest.raises(ChannelError):
        driver.receive()


def test_ten_thousand_frames_of_a_stranger_are_not_read_and_cost_no_memory() -> None:
    chosen = random.Random(7)
    genuine = _recorded(b"1 0\n" + b'{"attempt": 1, "event": {"event": "heartbeat", "step": 3, "v": 2}}')
    process = psutil.Process()
    key = chosen.randbytes(32)
    before = 0
    for number in range(10_000):
        if number == 1000:
            before = process.memory_info().rss
        frame = bytearray(genuine)
        match number % 4:
            case 0:  # random
                body = chosen.randbytes(chosen.randrange(200))
                frame = bytearray(struct.pack(">I", len(body)) + chosen.randbytes(32) + body)
            case 1:  # one bit changed
                frame[chosen.randrange(len(frame))] ^= 1 << chosen.randrange(8)
            case 2:  # cut short
                del frame[chosen.randrange(len(frame)) :]
            case _:  # replayed as it was
                pass
        ours, theirs = _pair()
        theirs.sendall(frame)
        theirs.close()
        reader = Channel(ours, key, DRIVER, AGENT)
        try:
            assert reader.receive() is None  # cut short
        except ChannelError:
            pass
        finally:
            ours.close()
    assert process.memory_info().rss - before < 16 * 2**20


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    driver, agent = _greeted(ends)
    ends[1].sendall(struct.pack(">I", channels.MAX_BODY_BYTES + 1))
    with pytest.raises(ChannelError, match="a frame of 67108865 bytes"):
        driver.receive()
    with pytest.raises(ValueError, match="is more than"):
        agent.send(b"x" * (channels.MAX_BODY_BYTES + 1))
