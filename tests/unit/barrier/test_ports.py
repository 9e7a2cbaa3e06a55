"""Ports that are held for TensorFlow, and those that the driver listens at: any, or of a fixed range, IPv6 as well."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from distributed_cls.barrier.control_line import ControlClient, ControlServer
from distributed_cls.barrier.ports import endpoint, held_port, listening
from distributed_cls.barrier.rank_process import environment
from distributed_cls.contracts.node_report import load_probe
from distributed_cls.errors import UserError
from tests.patience import PATIENCE

_LISTEN = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", int(sys.argv[1])))
server.listen()
print("listening", flush=True)
server.accept()[0].sendall(b"hello")
"""


def test_a_held_port_can_be_listened_on_by_the_child_that_knows_it() -> None:
    with held_port() as port:
        child = subprocess.Popen([sys.executable, "-c", _LISTEN, str(port)], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"listening\n"
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
                assert peer.recv(5) == b"hello"
            assert child.wait(PATIENCE) == 0
        finally:
            child.kill()
            child.communicate()


def test_nobody_else_is_given_a_held_port() -> None:
    with held_port() as port, held_port() as other:
        assert port != other
        given = []
        for _ in range(2000):
            with socket.socket() as probe:
                probe.bind(("", 0))
                given.append(probe.getsockname()[1])
        assert port not in given
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("", port))
    with socket.socket() as stranger:
        stranger.bind(("", port))  # free again


def _free_range(count: int) -> range:
    """Ports next to each other that nobody uses."""
    for first in range(20_000, 30_000, count):
        ports = range(first, first + count)
        with ExitStack() as stack:
            try:
                for port in ports:
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return ports
    raise AssertionError("no free ports")


def test_a_range_gives_each_holder_a_port_of_its_own_until_it_has_no_more() -> None:
    ports = _free_range(3)
    with socket.create_server(("", ports[0])), held_port(ports) as one, held_port(ports) as other:
        assert [one, other] == list(ports[1:])
        with pytest.raises(UserError, match=rf"cluster\.ports={ports[0]}-{ports[2]} on .*Received: all 3 are in use\."):
            held_port(ports).__enter__()
        child = subprocess.Popen([sys.executable, "-c", _LISTEN, str(one)], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None and child.stdout.readline() == b"listening\n"
            with socket.create_connection(("127.0.0.1", one), timeout=PATIENCE) as peer:
                assert peer.recv(5) == b"hello"
        finally:
            child.kill()
            child.communicate()
    with held_port(ports[2:]) as again:
        assert again == ports[2]


def test_the_driver_listens_at_a_port_of_the_range_and_is_reached_at_another_address_than_it_binds() -> None:
    ports = _free_range(2)
    server = ControlServer("127.0.0.1", bind="0.0.0.0", ports=ports)
    try:
        assert server.address == ("127.0.0.1", ports[0])
        with listening("127.0.0.1", ports) as second:
            assert second.getsockname() == ("127.0.0.1", ports[1])
        client = ControlClient(("127.0.0.2", server.address[1]), server.secret, 0)  # as where NAT leads
        client.close()
    finally:
        server.close()


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback (::1)")


@needs_ipv6
def test_the_control_line_runs_over_ipv6() -> None:
    server = ControlServer("::1")
    try:
        client = ControlClient(server.address, server.secret, 3)
        assert server.ranks() == {3}
        client.close()
    finally:
        server.close()


def _probe(workers: list[str], rank: int) -> "subprocess.Popen[str]":
    tf_config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})
    return subprocess.Popen(
        [sys.executable, "-m", "distributed_cls.training.probe"],
        env=environment(1, (), tf_config, ["::1"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_ipv6
def test_tensorflow_sums_over_ipv6_at_ports_of_a_range() -> None:
    ports = _free_range(4)
    with held_port(ports) as one, held_port(ports) as other:
        workers = [endpoint("::1", one), endpoint("::1", other)]
        probes = [_probe(workers, rank) for rank in range(2)]
        try:
            for probe in probes:
                output, errors = probe.communicate(timeout=PATIENCE)
                assert probe.returncode == 0, errors[-2000:]
                assert (load_probe(output.splitlines()[-1]).mib_per_second or 0) > 0
        finally:
            for probe in probes:
                probe.kill()
                probe.communicate()
