"""A process that may have few open files serves on, whoever opens connections; with too few it does not start."""

import asyncio
import subprocess
import sys

import pytest
import uvicorn

from distributed_cls.serving.connections import ACCEPTED_AT_ONCE, bounded_protocol
from tests.patience import PATIENCE

_LIMITS = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from distributed_cls.errors import UserError
from distributed_cls.serving.connections import most_connections
try:
    print(most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "words"),
    [
        (256, 256, "96 256"),
        (256, 1024, "864 1024"),  # raised as far as the user may
        (100, 100, "Expected a limit of at least 192 open files. Received: ulimit -n is 100. Raise it."),
    ],
)
def test_connections_are_fewer_than_the_files_that_may_be_open(soft: int, hard: int, words: str) -> None:
    command = [sys.executable, "-c", _LIMITS, str(soft), str(hard)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stdout.strip() == words


async def hello(scope: dict[str, object], receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


async def status(port: int) -> tuple[bytes, asyncio.StreamWriter]:
    """The status line of a request, on a connection that stays open if the server lets it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return await asyncio.wait_for(reader.readline(), PATIENCE), writer


def test_one_connection_too_many_is_told_to_come_back() -> None:
    async def run() -> None:
        config = uvicorn.Config(hello, port=0, http=bounded_protocol(3), backlog=ACCEPTED_AT_ONCE, log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        found = [await status(port) for _ in range(5)]
        assert [line for line, _ in found] == [b"HTTP/1.1 200 OK\r\n"] * 3 + [
            b"HTTP/1.1 503 Service Unavailable\r\n"
        ] * 2
        found[0][1].close()
        while len(server.server_state.connections) == 3:
            await asyncio.sleep(0)
        assert (await status(port))[0] == b"HTTP/1.1 200 OK\r\n"
        server.should_exit = True
        await asyncio.wait_for(serving, PATIENCE)

    asyncio.run(run())
