"""What every request passes, without a server and without a model: compressed bodies, limits, the access log."""

import asyncio
import gzip
import re
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.serving.guard import Guard
from distributed_cls.serving.prometheus import Metrics

BODY = b'{"instances": []}' * 100
RAW = zlib.compressobj(wbits=-15)
RAW_BODY = RAW.compress(BODY) + RAW.flush()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body that it gets."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def call(
    body: bytes,
    coding: str = "identity",
    app: Callable[[Scope, Receive, Send], Awaitable[None]] = echo,
    settings: ServeConfig | None = None,
    path: str = "/classify",
) -> tuple[int, dict[str, str], bytes]:
    """Send one request through the guard: status, headers and body of the answer."""
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-encoding", coding.encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "client": ("10.0.0.7", 9),
    }
    guard = Guard(app, settings or ServeConfig(max_body_megabytes=1), Metrics())
    asyncio.run(guard(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])),  # as `cat a.gz b.gz`
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW_BODY),
    ],
)
def test_a_body_is_the_same_however_it_is_packed(coding: str, body: bytes) -> None:
    assert call(body, coding)[::2] == (200, BODY)


@pytest.mark.parametrize(
    ("coding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(BODY)[:-9], 400, b"The gzip body ends too early."),
        ("gzip", BODY, 400, b"The body is not gzip"),
        ("deflate", BODY, 400, b"The body is not deflate"),
        ("gzip", gzip.compress(BODY) + b"more", 400, b"The body is not gzip"),
        ("br", BODY, 415, b"Received: br."),
        ("gzip", gzip.compress(bytes(2**26)), 413, b"larger than 1 MiB"),
        ("gzip", gzip.compress(bytes(2**19)) * 9, 413, b"larger than 1 MiB"),
        ("identity", bytes(2**20 + 1), 413, b"larger than 1 MiB"),
    ],
)
def test_what_cannot_be_unpacked_or_is_too_much_is_refused(coding: str, body: bytes, status: int, words: bytes) -> None:
    found, _, answer = call(body, coding)
    assert found == status
    assert words in answer


async def cached(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-cache")]})
    await send({"type": "http.response.body", "body": b""})


def test_answers_are_not_stored_unless_they_say_so() -> None:
    assert call(b"")[1]["cache-control"] == "no-store"
    assert call(b"", app=cached)[1]["cache-control"] == "no-cache"


def test_the_access_log_has_a_line_per_request_that_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    call(b"")
    assert capsys.readouterr().out == ""
    settings = ServeConfig(access_log=True)
    call(b"", settings=settings)
    call(b"", settings=settings, path="/x\n2026 10.0.0.8 GET /forged" + "a" * 1000)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 10\.0\.0\.7 POST /classify 200 [\d.]+ ms", first)
    assert r"/x\n2026 10.0.0.8" in second
    assert len(second) < 300
