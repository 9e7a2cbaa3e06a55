"""What every request passes before and after the routes: limits while it arrives, security headers when it leaves."""

import asyncio
import datetime
import json
import logging
import time
import zlib
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.serving.prometheus import Metrics
from distributed_cls.text import printable

log = logging.getLogger(__name__)

_MEGABYTE = 2**20
_LONGEST_PATH = 200  # characters of the access log
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=(), camera=(self)",
}


@dataclass
class _RefusalError(Exception):
    status: int
    message: str
    retry_after: int | None = None


class Guard:
    """ASGI middleware. Bodies are counted as they arrive, so that no one can make the service hold more than it may."""

    def __init__(self, app: ASGIApp, settings: ServeConfig, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._largest_body = int(settings.max_body_megabytes * _MEGABYTE)
        self._largest_sum = int(settings.max_bodies_megabytes * _MEGABYTE)
        self._held = 0
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, from its first byte to the last of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        self._open += 1
        self._metrics.open_requests.set(self._open)
        try:
            await self._handle(scope, receive, send_guarded)
        finally:
            self._open -= 1
            self._metrics.open_requests.set(self._open)
            route = _route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            seconds = time.perf_counter() - started
            self._metrics.seconds.labels(route).observe(seconds)
            if self._settings.access_log:
                print(_access_line(scope, status, seconds), flush=True)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if self._open > self._settings.max_requests:
                raise _RefusalError(503, "The service is busy.", retry_after=1)
            await self._read(scope, receive, body)
            self._decompress(scope, body)
            # HEAD asks what GET would; the server itself leaves the body out of the answer.
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self._app(asked, _replay(bytes(body), receive), send_and_note)
            scope["route"] = asked.get("route")  # for the metrics
        except _RefusalError as refusal:
            await _refuse(send, refusal)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("A request to %s failed.", scope["path"])
            if not begun:
                await _refuse(send, _RefusalError(500, "Something went wrong here. The operator finds it in the log."))
        finally:
            self._held -= len(body)
            self._metrics.body_bytes.set(self._held)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read the whole body into ``body`` within the limits, or raise a refusal at the first byte too many."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self._largest_body:
            raise self._too_large()
        try:
            await asyncio.wait_for(self._read_chunks(receive, body), self._settings.receive_timeout)
        except asyncio.TimeoutError:
            limit = self._settings.receive_timeout
            raise _RefusalError(408, f"The body took longer than {limit:g} s to arrive.") from None

    async def _read_chunks(self, receive: Receive, body: bytearray) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _RefusalError(400, "The connection ended before the body did.")
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > self._largest_body:
                raise self._too_large()
            if self._held + len(chunk) > self._largest_sum:
                raise _RefusalError(503, "The service is busy.", retry_after=1)
            body += chunk
            self._held += len(chunk)
            self._metrics.body_bytes.set(self._held)
            more = message.get("more_body", False)

    def _decompress(self, scope: Scope, body: bytearray) -> None:
        """Replace a compressed body by what it holds, within the same limits."""
        coding = dict(scope["headers"]).get(b"content-encoding", b"identity").strip().lower().decode("latin-1")
        if coding == "identity":
            return
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise _RefusalError(415, f"Expected content-encoding gzip, deflate or none. Received: {coding[:100]}.")
        compressed = len(body)
        try:
            whole = _inflated(bytes(body), coding, self._largest_body)
        except zlib.error as error:
            raise _RefusalError(400, f"The body is not {coding}: {error}.") from None
        if len(whole) > self._largest_body:
            raise self._too_large()
        if self._held - compressed + len(whole) > self._largest_sum:
            raise _RefusalError(503, "The service is busy.", retry_after=1)
        body[:] = whole
        self._held += len(whole) - compressed
        self._metrics.body_bytes.set(self._held)

    def _too_large(self) -> _RefusalError:
        return _RefusalError(413, f"The body is larger than {self._settings.max_body_megabytes:g} MiB.")


def _inflated(data: bytes, coding: str, most: int) -> bytes:
    """What a compressed body holds; of one that holds more than ``most`` bytes, only as many and one.

    Raises zlib.error, and a refusal when it ends too early.
    """
    whole = b""
    # Some send what zlib calls raw under the name of deflate; its first byte cannot be that of a zlib header.
    raw = coding == "deflate" and data[:1] and data[0] & 0x0F != zlib.DEFLATED
    while data and len(whole) <= most:  # gzip files may follow one another
        decoder = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
        whole += decoder.decompress(data, most + 1 - len(whole))
        if not decoder.eof and len(whole) <= most:
            raise _RefusalError(400, f"The {coding} body ends too early.")
        data = decoder.unused_data
    return whole


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, as one message; afterwards what the connection says (that it ended)."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(send: Send, refusal: _RefusalError) -> None:
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status in (408, 413):
        # The rest of the body is still on its way; nothing further can be understood on this connection.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": refusal.message}).encode()})


def _route(scope: Scope) -> str:
    """The route's pattern, so that a caller who makes up paths cannot make the metrics grow."""
    return getattr(scope.get("route"), "path_format", "other")


def _access_line(scope: Scope, status: int, seconds: float) -> str:
    """A request on one line. Neither its query nor its body is told, nor what the pictures are called."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    client = scope["client"][0] if scope.get("client") else "-"
    path = printable(scope["path"])[:_LONGEST_PATH]
    return f"{now} {client} {scope['method'][:20]} {path} {status} {1000 * seconds:.1f} ms"
