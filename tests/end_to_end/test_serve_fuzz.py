"""Ten thousand hostile requests: never a 5xx but 503, flat memory, and an answer afterwards."""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.end_to_end.inference_support import Server, digit_images, digits_model, encode, serving, upload
from tests.patience import PATIENCE

OWN_REQUESTS = 9_400
THREADS = 4
EXAMPLES = 100
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(digits_model(), '{"max_body_megabytes": 1, "max_images": 8}') as running:
        yield running


def damaged(chance: random.Random, data: bytes) -> bytes:
    """``data`` with bytes flipped, cut, doubled or replaced by noise."""
    mutable = bytearray(data)
    kind = chance.randrange(5)
    if kind == 0:
        for _ in range(chance.randint(1, 20)):
            mutable[chance.randrange(len(mutable))] = chance.randrange(256)
    elif kind == 1:
        del mutable[chance.randrange(len(mutable)) :]
    elif kind == 2:
        at = chance.randrange(len(mutable))
        mutable[at:at] = chance.randbytes(chance.randint(1, 400))
    elif kind == 3:
        mutable = bytearray(chance.randbytes(chance.randint(0, 300)))
    return bytes(mutable)


def multipart(chance: random.Random, images: list[bytes]) -> tuple[str, bytes]:
    """A form of up to ten files with odd names and kinds, sometimes damaged as a whole."""
    boundary = chance.choice(["x", "----form", "a b", "", "=" * 60])
    body = b""
    for _ in range(chance.randint(0, 10)):
        name = chance.choice(['"a.png"', '"../../x"', '"\x00"', "a", '"' + "n" * 500 + '"', "", '"%0d%0aX: y"'])
        kind = chance.choice(["image/png", "text/html", "image/svg+xml", "x", ""])
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename={name}\r\nContent-Type: {kind}\r\n'
        )
        body += head.encode() + b"\r\n" + damaged(chance, chance.choice(images)) + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    if chance.random() < 0.3:
        body = damaged(chance, body)
    return f"multipart/form-data; boundary={boundary}", body


def as_json(chance: random.Random, images: list[bytes]) -> tuple[str, bytes]:
    """A predict body, right or wrong in some way."""
    encoded = base64.b64encode(damaged(chance, chance.choice(images))).decode()
    odd = [
        None,
        0,
        -1,
        1e308,
        "",
        "x",
        [],
        {},
        {"b64": None},
        {"b64": encoded},
        {"image_bytes": {"b64": encoded}},
        [[[]]],
    ]
    body = {chance.choice(["instances", "inputs", ""]): [chance.choice(odd) for _ in range(chance.randint(0, 9))]}
    text = json.dumps(body).encode()
    return "application/json", damaged(chance, text) if chance.random() < 0.3 else text


PATHS = ("/classify", "/classify?top=3", "/classify?top=x", "/explain", "/explain?label=3", "/v1/models/digits:predict")
ODD_PATHS = (
    "/",
    "/..",
    "/%00",
    "/v1/models/%ff",
    "/v1/models/x:predict",
    "/static/%2e%2e/x",
    "/" + "a" * 3000,
    "/metrics",
)


def hostile(chance: random.Random, images: list[bytes]) -> tuple[str, str, bytes, dict[str, str]]:
    """One request: method, path, body, headers."""
    path = chance.choice(PATHS) if chance.random() < 0.85 else chance.choice(ODD_PATHS)
    wants_json = "predict" in path
    content_type, body = (as_json if wants_json != (chance.random() < 0.1) else multipart)(chance, images)
    headers = {"content-type": content_type if chance.random() < 0.9 else chance.choice(["", "x", "text/html; a=\x7f"])}
    if chance.random() < 0.05:
        headers["content-encoding"] = "gzip"
    method = "POST" if chance.random() < 0.95 else chance.choice(["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "ODD"])
    return method, path, body, headers


def attack(server: Server, seed: int, count: int) -> Counter[int]:
    """Send ``count`` hostile requests one after the other: how often which status came back."""
    chance = random.Random(seed)
    pictures = digit_images()[0]
    images = [
        encode(pictures[index], extension) for index in range(4) for extension in (".png", ".jpg", ".webp", ".bmp")
    ]
    codes: Counter[int] = Counter()
    address = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    for _ in range(count):
        method, path, body, headers = hostile(chance, images)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            codes[answer.status] += 1
        except (http.client.HTTPException, ConnectionError):
            # The server may close on what is no HTTP; it must then take the next connection.
            connection.close()
            connection = http.client.HTTPConnection(address, timeout=PATIENCE)
            codes[0] += 1
    connection.close()
    return codes


def attack_all(server: Server, seed: int, count: int) -> Counter[int]:
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda thread: attack(server, seed + thread, count // THREADS), range(THREADS))
        return sum(parts, Counter())


def test_ten_thousand_hostile_requests(server: Server) -> None:
    codes = attack_all(server, 0, 2_000)  # allocators settle
    before = server.resident_megabytes()
    codes += attack_all(server, 1000, OWN_REQUESTS - 2_000)
    growth = server.resident_megabytes() - before
    assert {code for code in codes if code >= 500} <= {503}, codes
    assert codes[0] < OWN_REQUESTS * 0.02, codes
    assert codes[200] > 1000, codes
    assert growth < 60, f"memory grew by {growth:.0f} MB"
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        answer = upload(client, ("a.png", encode(digit_images()[0][3])))
    assert answer.json()["results"][0]["label"]


def explore(operation: schemathesis.APIOperation, mode: GenerationMode) -> int:
    """Call one operation with generated requests that fit (or just do not fit) its description: how many."""
    calls = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(mode))
    def call(case: schemathesis.Case) -> None:
        nonlocal calls
        calls += 1
        response = case.call(timeout=PATIENCE)
        assert response.status_code < 500 or response.status_code == 503, case.as_curl_command()
        # A method or content type of another kind is refused by the framework before any route is known.
        if response.status_code != 405:
            case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no way to be called wrongly
        call()
    return calls


def test_schemathesis_finds_no_server_error_and_no_undocumented_answer(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 12
    total = sum(
        explore(operation, mode)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )
    assert total >= 600
    assert httpx.get(f"{server.url}/readyz", timeout=PATIENCE).status_code == 200
