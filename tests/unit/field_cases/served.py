"""A server in this process that answers with the same three classes whatever it is sent, and raw requests to it."""

import asyncio
import contextlib
import json
import socket
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn

from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.predictor import likeliest
from distributed_cls.serving.app import create_app
from distributed_cls.serving.connections import bounded_protocol
from distributed_cls.serving.prometheus import Metrics
from distributed_cls.serving.service import Service
from tests.patience import PATIENCE

SHARES = [0.75, 0.1875, 0.0625]


class _Classifier:
    def answers(self, images: np.ndarray) -> list[likeliest.Answer]:
        return [likeliest.Answer(np.array(SHARES, np.float32), 5.5)] * len(images)


async def _watch(_interval: float) -> None:
    await asyncio.Event().wait()


def _versions(confidence: Confidence) -> Any:
    export = types.SimpleNamespace(
        classes=["cat", "dog", "owl"],
        image_size=16,
        channels=3,
        resize="stretch",
        version="abcd1234",
        name="cnn",
        title="pets",
        created="",
        metrics={},
        dataset={},
        folder="/models/7",
        confidence=confidence,
    )
    loaded = types.SimpleNamespace(
        export=export, classifier=_Classifier(), can_explain=False, version_names=["abcd1234", "7"]
    )
    return types.SimpleNamespace(current=loaded, name="pets", watch=_watch)


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])

    @property
    def names(self) -> list[str]:
        """Of the images in an answer of /classify."""
        return [result["name"] for result in json.loads(self.body)["results"]]


@contextlib.contextmanager
def serving(settings: ServeConfig, confidence: Confidence = Confidence()) -> Iterator[int]:  # noqa: B008 - frozen
    """The port of a server, until the end of the block. ``confidence``: of its model."""
    app = create_app(lambda: Service(settings, _versions(confidence), Metrics()))
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=bounded_protocol(50), lifespan="on", log_level="critical", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(PATIENCE)


def send(port: int, request: bytes) -> Answer:
    """Send these bytes on a connection of their own and read until the server ends it."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        received = b""
        while block := connection.recv(65536):
            received += block
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(body.split(b"\r\n")[1::2])  # none of our answers has a line break in it
    return Answer(int(first.split()[1]), headers, body)


def ask(port: int, method: str, path: str, headers: str = "", body: bytes = b"", sized: bool = True) -> Answer:
    """A request with these header lines (and Content-Length, unless they tell it)."""
    size = f"content-length: {len(body)}\r\n" if sized else ""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}{size}\r\n"
    return send(port, head.encode("latin-1") + body)
