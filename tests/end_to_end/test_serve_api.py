"""The HTTP API as its callers meet it: a server process, real requests, and everything that can be wrong with them."""

import base64
import gzip
import io
import json
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.inference_support import Server, digit_images, digit_png, digits_model, encode, serving, upload
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        digits_model(), '{"max_body_megabytes": 2, "max_images": 8, "reload": 0.2, "root_path": "/cars"}'
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as opened:
        yield opened


def test_classify_answers_one_result_per_image_in_order(client: httpx.Client) -> None:
    images, labels = digit_images()
    chosen = range(1500, 1508)
    answer = upload(client, *((f"{index}.png", encode(images[index])) for index in chosen))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["name"] for result in results] == [f"{index}.png" for index in chosen]
    correct = sum(result["label"] == str(labels[index]) for result, index in zip(results, chosen, strict=True))
    assert correct >= 6
    for result in results:
        assert len(result["top"]) == 5
        assert result["top"][0] == {"label": result["label"], "confidence": result["confidence"]}
        shares = [guess["confidence"] for guess in result["top"]]
        assert shares == sorted(shares, reverse=True)


def test_predict_has_the_shape_of_tensorflow_serving_and_the_same_numbers(client: httpx.Client) -> None:
    encoded = base64.b64encode(digit_png()).decode()
    rows = [{"b64": encoded}, {"image_bytes": {"b64": encoded}}]
    answer = client.post("/v1/models/digits:predict", json={"instances": rows})
    assert answer.status_code == 200
    predictions = np.array(answer.json()["predictions"])
    assert predictions.shape == (2, 10)
    assert predictions.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    top = upload(client, ("x.png", digit_png()), path="/classify?top=10").json()["results"][0]["top"]
    by_class = [next(guess["confidence"] for guess in top if guess["label"] == str(digit)) for digit in range(10)]
    assert predictions[0] == pytest.approx(by_class, abs=1e-6)
    assert answer.json()["labels"] == [top[0]["label"]] * 2


def test_the_other_routes_of_tensorflow_serving(client: httpx.Client) -> None:
    (state,) = client.get("/v1/models/digits").json()["model_version_status"]
    address = f"/v1/models/digits/versions/{state['version']}"
    assert client.get(address).json() == {"model_version_status": [state]}
    about = client.get(f"{address}/metadata").json()
    assert about == client.get("/v1/models/digits/metadata").json()
    assert about["model_spec"] == {"name": "digits", "signature_name": "", "version": state["version"]}
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    sizes = [dimension["size"] for dimension in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "10"]
    # As its documentation sends it: curl -d names no content type of its own.
    body = json.dumps({"instances": [{"b64": base64.b64encode(digit_png()).decode()}]})
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post(f"{address}:predict", content=body, headers=form)
    assert answer.json() == client.post("/v1/models/digits:predict", content=body).json()
    for path in ("/v1/models/digits/versions/3", "/v1/models/digits/versions/3/metadata", "/v1/models/x/metadata"):
        assert "Available: " in client.get(path).json()["error"]
    assert client.post("/v1/models/digits/versions/3:predict", content=body).status_code == 404
    assert client.get(f"{address}:predict").status_code == 405


def test_the_model_and_the_state_of_the_service(client: httpx.Client) -> None:
    about = client.get("/v1/models/digits").json()
    assert about["ready"] is True
    assert about["model_version_status"][0]["state"] == "AVAILABLE"
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert client.get("/v1/models").json() == {"models": ["digits"]}
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    upload(client, ("x.png", digit_png()))
    metrics = client.get("/metrics").text
    for name in ('requests_total{code="200",route="/classify"}', "batch_images_bucket", "images_waiting", "model_info"):
        assert f"\ndistributed_cls_{name}" in metrics
    own = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert all(line.startswith("distributed_cls_") for line in own)


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/metrics", "/static/app.css", "/v1/models/digits"])
def test_head_says_what_get_would(client: httpx.Client, path: str) -> None:
    asked, got = client.head(path), client.get(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert client.head("/nowhere").status_code == 404
    assert client.head("/classify").status_code == 405
    assert client.get(path).status_code == 200  # the connection is still in order


def test_an_address_or_method_that_is_not_there_is_refused_in_words(client: httpx.Client) -> None:
    assert "nothing at this address" in client.get("/nowhere").json()["error"]
    refused = client.get("/classify")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert "GET is not allowed here; use POST." in refused.json()["error"]


def test_the_commands_of_the_docs_are_for_the_address_of_the_reader(server: Server, client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert f"{server.url}/cars/classify" in page
    assert "?." not in page
    assert "{version}" not in "".join(re.findall(r"<code>curl.*?</code>", page, re.DOTALL))
    elsewhere = client.get("/docs", headers={"host": "x';rm -rf /"}).text
    assert "rm -rf" not in elsewhere


def test_docs_describe_every_route_without_anything_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    for text in (page, client.get("/").text, client.get("/static/app.css").text):
        assert "https://" not in text
        assert "<style" not in text
        assert " style=" not in text


def test_the_heat_map_is_a_png_of_the_prepared_size(client: httpx.Client) -> None:
    answer = upload(client, ("x.png", digit_png()), path="/explain?label=3")
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.size, picture.mode) == ((32, 32), "RGBA")
    unknown = upload(client, ("x.png", digit_png()), path="/explain?label=nothing")
    assert (unknown.status_code, unknown.json()["error"]) == (
        422,
        "Unknown label. Classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
    )
    assert upload(client, ("x.png", b"no"), path="/explain").status_code == 422


def test_every_answer_carries_the_security_headers(client: httpx.Client) -> None:
    answers = [client.get("/"), client.get("/nowhere"), client.get("/static/app.js"), upload(client, ("x", b"no"))]
    answers.append(client.post("/classify", content=b"x" * 3_000_000))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def png_bomb(edge: int = 30_000) -> bytes:
    """A PNG of some kilobytes that says it is ``edge`` pixels wide and high."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(20_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", b"", "empty"),
        ("words.txt", b"not a picture", "not an image"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "not an image"),
        ("page.png", b"<html><script>alert(1)</script></html>", "not an image"),
        ("cut.png", digit_png()[:-30], "cut off"),
        ("bomb.png", png_bomb(), "too many pixels"),
    ],
)
def test_a_bad_image_is_a_friendly_result_and_the_good_ones_are_answered(
    client: httpx.Client, name: str, data: bytes, words: str
) -> None:
    answer = upload(client, (name, data), ("good.png", digit_png()))
    assert answer.status_code == 200
    bad, good = answer.json()["results"]
    assert words in bad["error"]
    assert bad["label"] is None
    assert good["error"] is None
    in_base64 = {"instances": [{"b64": base64.b64encode(data).decode()}]}
    assert client.post("/v1/models/digits:predict", json=in_base64).status_code == 422


def test_names_are_shown_without_their_path_and_never_opened(client: httpx.Client) -> None:
    names = ["../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "a\x00b.png", "<img src=x>.png", "x" * 900]
    answer = upload(client, *((name, digit_png()) for name in names))
    assert answer.status_code == 200
    shown = [result["name"] for result in answer.json()["results"]]
    assert shown[:3] == ["passwd", "boot.ini", "shadow"]
    assert all("/" not in name and "\x00" not in name and len(name) <= 200 for name in shown)
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/__init__.py", "/static//etc/passwd"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status"),
    [
        ("/classify", "application/json", b"{}", 415),
        ("/classify", "image/png", b"x", 415),
        ("/classify", "multipart/form-data", b"x", 400),
        ("/classify", "multipart/form-data; boundary=x", b"--x\r\nbroken", 422),
        ("/classify", "multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("/v1/models/digits:predict", "text/plain", b"{}", 400),
        ("/v1/models/digits:predict", "application/json", b"{", 400),
        ("/v1/models/digits:predict", "application/json", b"[" * 100_000, 400),
        ("/v1/models/digits:predict", "application/json", b'{"instances": []}', 400),
        ("/v1/models/digits:predict", "application/json", b'{"instances": [{"b64": 3}]}', 400),
        ("/v1/models/digits:predict", "application/json", b'{"instances": [{"b64": "\xc3\xa9"}]}', 400),
        ("/v1/models/digits:predict", "application/json", b'{"instances": [{"b64": "AAAAA"}]}', 400),
        ("/v1/models/digits:predict", "text/plain", b"not json", 415),
        ("/v1/models/digits:predict", "application/json", b'{"instances": [1], "signature_name": "x"}', 400),
        ("/v1/models/digits:predict", "application/json", b'{"instances": [' + b"1," * 20 + b"1]}", 413),
        ("/v1/models/other:predict", "application/json", b"{}", 404),
        ("/classify?top=0", "multipart/form-data; boundary=x", b"", 422),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_reason(
    client: httpx.Client, path: str, content_type: str, body: bytes, status: int
) -> None:
    answer = client.post(path, content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)),
        lambda text: f"data:image/png;base64,{text}",
    ],
    ids=["plain", "no padding", "URL-safe", "line breaks", "data URI"],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
def test_base64_is_taken_as_programs_write_it(
    client: httpx.Client, form: Callable[[str], str], content_type: str
) -> None:
    def predict(text: str, kind: str) -> httpx.Response:
        body = json.dumps({"instances": [{"b64": text}]})
        return client.post("/v1/models/digits:predict", content=body, headers={"content-type": kind} if kind else {})

    text = base64.b64encode(digit_png()).decode()
    answer = predict(form(text), content_type)
    assert answer.status_code == 200, answer.text
    assert answer.json() == predict(text, "application/json").json()


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_a_compressed_body_is_decompressed(client: httpx.Client, coding: str, wbits: int) -> None:
    body = json.dumps({"instances": [{"b64": base64.b64encode(digit_png()).decode()}]}).encode()
    packer = zlib.compressobj(wbits=wbits)
    packed = packer.compress(body) + packer.flush()
    address = "/v1/models/digits:predict"
    answer = client.post(address, content=packed, headers={"content-encoding": coding})
    assert answer.status_code == 200 and answer.json() == client.post(address, content=body).json()
    short = client.post(address, content=packed[:-9], headers={"content-encoding": coding})
    assert short.status_code == 400 and f"The {coding} body ends too early." in short.text
    other = client.post(address, content=body, headers={"content-encoding": coding})
    assert other.status_code == 400 and f"The body is not {coding}" in other.text
    unknown = client.post(address, content=packed, headers={"content-encoding": "br"})
    assert unknown.status_code == 415 and "Received: br." in unknown.text


def test_a_small_body_that_unpacks_to_much_is_refused_before_it_is_held(client: httpx.Client) -> None:
    bomb = gzip.compress(bytes(64 * 2**20))
    answer = client.post("/v1/models/digits:predict", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


def test_only_bad_images_are_no_success(client: httpx.Client) -> None:
    one = upload(client, ("notes.png", b"not an image"))
    assert one.status_code == 422 and one.json()["error"] == one.json()["results"][0]["error"]
    two = upload(client, ("notes.png", b"not an image"), ("empty.png", b""))
    assert two.status_code == 422 and two.json()["error"].startswith(
        "None of the 2 images can be read. The first, notes"
    )
    assert [result["label"] for result in two.json()["results"]] == [None, None]


def test_get_on_predict_says_that_it_takes_post(client: httpx.Client) -> None:
    answer = client.get("/v1/models/digits:predict")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert "GET is not allowed here; use POST." in answer.json()["error"]
    empty = client.post("/v1/models/digits:predict", json={"instances": []})
    assert "Received: an empty list." in empty.json()["error"]


def test_the_page_names_nothing_by_an_absolute_path(client: httpx.Client) -> None:
    """A proxy may show it below a path of its own."""
    for page in ("/", "/docs", "/static/app.js"):
        assert client.get(f"/cars{page}").text == client.get(page).text  # whether the proxy takes its path off or not
        assert not re.search(r"""(?:href|src|action)="/|(?:fetch|send)\([`"']/""", client.get(page).text), page


def test_too_many_images(client: httpx.Client) -> None:
    assert upload(client, *(("x.png", digit_png()) for _ in range(9))).status_code == 413


def _raw(server: Server, head: str) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)), timeout=PATIENCE)
    opened.sendall(f"POST /classify HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode())
    return opened


def test_a_body_that_is_too_large_is_refused_by_its_header(server: Server) -> None:
    with _raw(server, "content-type: multipart/form-data; boundary=x\r\ncontent-length: 99999999999\r\n") as opened:
        assert b"413" in opened.recv(100)  # and not a byte of the body was sent


def test_a_body_that_does_not_say_its_size_is_refused_while_it_arrives(server: Server) -> None:
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with _raw(server, "content-type: multipart/form-data; boundary=x\r\ntransfer-encoding: chunked\r\n") as opened:
        sent = 0
        opened.settimeout(0.01)
        refusal = b""
        while sent < 500 and not refusal:
            try:
                opened.sendall(block)
                sent += 1
                refusal = opened.recv(100)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
        assert sent < 100  # 2 MiB are 32 blocks
        assert b"413" in refusal or not refusal


def test_a_body_that_never_ends_has_a_limit() -> None:
    with serving(digits_model(), '{"receive_timeout": 0.3}') as server:
        with _raw(server, "content-type: multipart/form-data; boundary=x\r\ncontent-length: 100\r\n") as opened:
            assert b"408" in opened.recv(100)
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_listens_on_loopback_only(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")
