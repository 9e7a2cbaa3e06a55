"""Requests as programs, proxies and people with curl send them: answered, or refused with a reason that helps."""

import base64
import json
from collections.abc import Iterator

import pytest

from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.contracts.confidence import Confidence, RejectBy

from .conftest import picture
from .served import SHARES, ask, send, serving

FORM = "content-type: multipart/form-data; boundary=x\r\n"
JSON = "content-type: application/json\r\n"
PREDICT, PREDICT_BY_VERSION = "/v1/models/pets:predict", "/v1/models/pets/versions/7:predict"
PNG = picture(1)
B64 = base64.b64encode(PNG).decode()
END = b"--x--\r\n"
NO_HTTP = b"Invalid HTTP request received."


def part(disposition: str, data: bytes = PNG, more: str = "", encoding: str = "utf-8") -> bytes:
    head = f"--x\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return head.encode(encoding) + data + b"\r\n"


FILE = part('name="file"; filename="a.png"')


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(ServeConfig(max_body_megabytes=1, max_images=32, receive_timeout=0.5, root_path="/cars")) as opened:
        yield opened


NAMES: dict[str, tuple[bytes, str]] = {
    "an empty name": (part('name="file"; filename=""'), "image"),
    "folders": (part('name="file"; filename="../../etc/passwd.png"'), "passwd.png"),
    "folders of Windows": (part('name="file"; filename="C:\\\\pics\\\\a.png"'), "a.png"),
    "a line break": (part('name="file"; filename="a\nb.png"'), "ab.png"),
    "an escaped line break": (part('name="file"; filename="a%0ab%22.png"'), "a%0ab%22.png"),
    "Unicode": (part('name="file"; filename="Ü车🐈.png"'), "Ü车🐈.png"),
    "Latin-1": (part('name="file"; filename="Ü.png"', encoding="latin-1"), "Ü.png"),
    "turned direction": (part('name="file"; filename="a\u202egnp.exe"'), "agnp.exe"),
    "both forms": (part('name="file"; filename="U.png"; filename*=UTF-8\'\'%C3%9C.png'), "U.png"),
    "sixteen fields before": (part('name="note"', b"1") * 16 + FILE, "a.png"),
}


@pytest.mark.parametrize(("body", "name"), NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_is_answered(port: int, body: bytes, name: str) -> None:
    answer = ask(port, "POST", "/classify", FORM, body + END)
    assert (answer.status, answer.names) == (200, [name])


TYPES = [
    'multipart/form-data; boundary="x"',
    "Multipart/Form-Data; Boundary=x",
    "multipart/form-data; charset=no; boundary=x",
]


@pytest.mark.parametrize("content_type", TYPES)
def test_the_content_type_of_a_form_in_every_spelling(port: int, content_type: str) -> None:
    assert ask(port, "POST", "/classify", f"content-type: {content_type}\r\n", FILE + END).names == ["a.png"]


NO_NAME, IN_BASE64 = "without a file name", "Content-Transfer-Encoding: base64\r\n"
FORMS: dict[str, tuple[str, bytes, int, str]] = {
    "no body": (FORM, b"", 422, "at least one file in the form. Received: none."),
    "no type": ("", FILE + END, 415, "Received: none."),
    "an image alone": ("content-type: image/png\r\n", PNG, 415, "Received: image/png."),
    "no end": (FORM, FILE, 422, "Received: none."),
    "curl -F file=a.png": (
        FORM,
        part('name="file"', b"a.png") + END,
        422,
        f"file {NO_NAME} (with curl: -F file=@photo",
    ),
    "a name in another form": (FORM, part("name=\"file\"; filename*=UTF-8''a.png") + END, 422, f"file {NO_NAME}"),
    "a field like markup": (FORM, part('name="../<b>\n"', b"1") + END, 422, f"the field <b> {NO_NAME}"),
    "no name": (FORM, part('filename="a.png"') + END, 400, '"name" must be provided'),
    "no boundary": ("content-type: multipart/form-data\r\n", FILE + END, 400, "Missing boundary"),
    "another boundary": (FORM, (FILE + END).replace(b"--x", b"--y"), 400, "Invalid multipart data"),
    "words before": (FORM, b"hello\r\n" + FILE + END, 400, "Invalid multipart data"),
    "lines of Unix": (FORM, (FILE + END).replace(b"\r\n", b"\n"), 400, "Invalid multipart data"),
    "a name of 5,000 characters": (FORM, part(f'name="f"; filename="{"a" * 5000}"') + END, 400, "Invalid multipart"),
    "seventeen fields": (FORM, part('name="a"', b"1") * 17 + FILE + END, 400, "Maximum number of fields is 16"),
    "33 images": (FORM, FILE * 33 + END, 413, "at most 32 images in one request."),
    "a file in base64": (FORM, part('name="f"; filename="a.png"', B64.encode(), IN_BASE64) + END, 422, "not an image"),
}


@pytest.mark.parametrize(("headers", "body", "status", "words"), FORMS.values(), ids=FORMS)
def test_a_form_that_cannot_be_answered_says_why(port: int, headers: str, body: bytes, status: int, words: str) -> None:
    answer = ask(port, "POST", "/classify", headers, body)
    assert answer.status == status and words in answer.error


def test_as_many_images_as_are_allowed(port: int) -> None:
    assert len(ask(port, "POST", "/classify", FORM, FILE * 32 + END).names) == 32


def test_a_body_that_nobody_understands_leaves_no_line_in_the_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    ask(port, "POST", "/classify", FORM, b"hello\r\n" + FILE + END)
    assert not caplog.records


def instances(*rows: object, **more: object) -> bytes:
    return json.dumps({"instances": rows, **more}).encode()


WHOLE = instances({"b64": B64})
ANSWERED: dict[str, bytes] = {
    "numbers that JSON has not": b'{"x": NaN, "y": -Infinity, ' + WHOLE[1:],
    "a key twice": b'{"instances": [1], ' + WHOLE[1:],
    "a mark of UTF-8": b"\xef\xbb\xbf" + WHOLE,
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "capitals in the URI": instances({"b64": "DATA:image/png;BASE64," + B64}),
    "a character set in the URI": instances({"b64": "data:image/png;charset=utf-8;base64," + B64}),
    "a signature of null": instances({"b64": B64}, signature_name=None),
    "another key beside": instances({"b64": B64, "name": "a.png"}),
}


@pytest.mark.parametrize("body", ANSWERED.values(), ids=ANSWERED)
def test_an_unusual_body_that_has_one_meaning_is_answered(port: int, body: bytes) -> None:
    answer = ask(port, "POST", PREDICT, JSON, body)
    assert answer.status == 200, answer.body
    assert json.loads(answer.body) == {"predictions": [SHARES], "labels": ["cat"], "accepted": [True]}


_ENERGY, _CONFIDENCE = RejectBy.ENERGY, RejectBy.CONFIDENCE


@pytest.mark.parametrize(
    ("threshold", "reject_by", "accepted", "words"),
    [
        (0.74, _CONFIDENCE, True, "Below 74% confidence"),
        (0.76, _CONFIDENCE, False, "Below 76% confidence"),
        (5.4, _ENERGY, True, "Below an energy score of 5.4"),
        (5.6, _ENERGY, False, "Below an energy score of 5.6"),
    ],
)
def test_an_answer_below_the_models_threshold_says_so_on_every_route(
    threshold: float, reject_by: RejectBy, accepted: bool, words: str
) -> None:
    with serving(ServeConfig(port=0), Confidence(1.0, threshold, 0.9, reject_by)) as port:
        form = ask(port, "POST", "/classify", f"content-type: {TYPES[0]}\r\n", FILE + END)
        (result,) = json.loads(form.body)["results"]
        assert (result["label"], result["accepted"], result["confidence"]) == ("cat", accepted, 0.75)
        predicted = json.loads(ask(port, "POST", PREDICT, JSON, WHOLE).body)
        assert predicted == {"predictions": [SHARES], "labels": ["cat"], "accepted": [accepted]}
        about = json.loads(ask(port, "GET", "/v1/models/pets").body)
        assert (about["threshold"], about["reject_by"]) == (threshold, reject_by.value)
        page = ask(port, "GET", "/").body.decode()
        assert f"{words} the answer is “none of these”" in page


NO_LIST, NO_ROW = "Received: no list of instances.", 'Expected instance 0 to be {"b64": "…"}.'
BODIES: dict[str, tuple[bytes, int, str]] = {
    "no body": (b"", 400, "The body is not JSON."),
    "lists in lists": (b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "The body is not JSON."),
    "objects in objects": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400, "The body is not JSON."),
    "a number of 5,000 digits": (b'{"instances": [' + b"9" * 5000 + b"]}", 400, "The body is not JSON."),
    "a number without end": (b'{"instances": [1e999]}', 400, NO_ROW),
    "more after the end": (WHOLE + b"x", 400, "The body is not JSON."),
    "single quotes": (b"{'instances': []}", 400, "The body is not JSON."),
    "Latin-1": ('{"instances": [{"b64": "é"}]}'.encode("latin-1"), 400, "The body is not JSON."),
    "an object": (json.dumps({"instances": {"b64": B64}}).encode(), 400, NO_LIST),
    "a text": (json.dumps({"instances": B64}).encode(), 400, NO_LIST),
    "null": (b'{"instances": null}', 400, NO_LIST),
    "a list alone": (json.dumps([{"b64": B64}]).encode(), 400, NO_LIST),
    "another key": (json.dumps({"inputs": [{"b64": B64}]}).encode(), 400, NO_LIST),
    "texts": (instances(B64), 400, NO_ROW),
    "pixels": (instances([[0, 0, 0]]), 400, NO_ROW),
    "base64 in base64": (instances({"b64": {"b64": B64}}), 400, NO_ROW),
    "image_bytes without b64": (instances({"image_bytes": B64}), 400, NO_ROW),
    "half a character": (b'{"instances": [{"b64": "\\ud800"}]}', 400, r"Received: the character '\ud800'."),
    "a NUL": (instances({"b64": "AA\0A"}), 400, r"Received: the character '\x00'."),
    "a signature of half a character": (b'{"instances": [1], "signature_name": "\\ud800"}', 400, r"'\ud800'"),
    "no image in it": (instances({"b64": ""}), 422, "instance 0: The file is empty."),
    "nothing but padding": (instances({"b64": "===="}), 422, "instance 0: The file is empty."),
    "an empty URI": (instances({"b64": "data:image/png;base64,"}), 422, "instance 0: The file is empty."),
    "a bad one beside": (
        instances({"b64": B64}, {"b64": "AAAA"}),
        422,
        "1 of 2 images cannot be read. instance 1: This",
    ),
    "33 instances": (instances(*[{"b64": B64}] * 33), 413, "at most 32 images in one request."),
}


@pytest.mark.parametrize(("body", "status", "words"), BODIES.values(), ids=BODIES)
def test_a_body_that_cannot_be_answered_says_why(port: int, body: bytes, status: int, words: str) -> None:
    answer = ask(port, "POST", PREDICT, JSON, body)
    assert answer.status == status and words in answer.error


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        *(("0", "greater than or equal to 1"), ("-1", "greater than or equal to 1"), ("1001", "equal to 1000")),
        *(("1e9", "valid integer"), ("abc", "valid integer"), ("", "valid integer"), ("9" * 20, "equal to 1000")),
        *(("1", 1), ("1.0", 1), ("%201", 1), ("3", 3), ("1000", 3), ("1&top=2", 2)),
    ],
)
def test_how_many_classes_are_asked_for(port: int, top: str, expected: str | int) -> None:
    answer = ask(port, "POST", f"/classify?top={top}", FORM, FILE + END)
    if isinstance(expected, str):
        assert answer.status == 422 and expected in answer.error and answer.error.startswith("query.top: ")
    else:
        assert len(json.loads(answer.body)["results"][0]["top"]) == expected


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "post"])
@pytest.mark.parametrize(
    ("path", "allowed"), [("/classify", "POST"), ("/healthz", "GET"), (PREDICT, "POST"), (PREDICT_BY_VERSION, "POST")]
)
def test_another_method_is_told_which_to_use(port: int, method: str, path: str, allowed: str) -> None:
    answer = ask(port, method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed.lower())
    assert answer.error.startswith(f"{method} is not allowed here; use {allowed}. ")


NOTHING = "There is nothing at this address."


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        *((path, 404, NOTHING) for path in ("/classify/", "/v1/models/", "/v1/models/pets/", "/v1/models/pets%2F")),
        *((path, 404, NOTHING) for path in ("/%2e%2e/", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "//healthz")),
        *((path, 404, NOTHING) for path in ("/./healthz", "/healthz%00", "/%ff", "/%", "/HEALTHZ", "*", "/v1//models")),
        *((path, 404, NOTHING) for path in ("/" + "a" * 60_000, "http://evil.example/healthz")),
        *(("/static/app.py", 404, "No such file."), ("/v1/models/pets:explain", 404, NOTHING)),
        *(("/v1/models/pets/versions/9", 404, "abcd1234 or 7."), ("/v1/models/Pets", 404, "Available: pets.")),
        *(("/v1/models/%70ets", 200, '"name":"pets"'), ("/v1/models/pets/versions/7", 200, '"AVAILABLE"')),
        *(("/healthz?x=%ff", 200, '"ok"'), ("/healthz", 200, '"ok"')),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)  # fmt: skip
def test_an_address_is_what_is_written_and_nothing_near_it(port: int, path: str, status: int, words: str) -> None:
    answer = ask(port, "GET", path)
    assert answer.status == status and words in answer.body.decode()
    assert "location" not in answer.headers  # behind a proxy it would lead elsewhere


LENGTHS: dict[str, tuple[str, bytes, int, bytes]] = {
    "twice the same": (f"content-length: {len(FILE + END)}\r\n" * 2, FILE + END, 200, b'"cat"'),
    "twice another": ("content-length: 5\r\ncontent-length: 6\r\n", b"12345", 400, NO_HTTP),
    "negative": ("content-length: -1\r\n", b"", 400, NO_HTTP),
    "with a plus": ("content-length: +5\r\n", b"12345", 400, NO_HTTP),
    "a word": ("content-length: five\r\n", b"12345", 400, NO_HTTP),
    "of thirty digits": (f"content-length: {'9' * 30}\r\n", b"", 400, NO_HTTP),
    "of more than is allowed": ("content-length: 1048577\r\n", b"", 413, b"larger than 1 MiB"),
    "of more than comes": ("content-length: 9\r\n", b"123", 408, b"took longer than 0.5 s"),
    "none": ("", b"", 422, b"Received: none."),
    "in chunks as well": ("content-length: 9\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n", 422, b"Received: none."),
    "in chunks of no size": ("transfer-encoding: chunked\r\n", b"size\r\n", 400, NO_HTTP),
    "in another coding": ("transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n", 400, NO_HTTP),
    "packed twice": ("content-length: 1\r\ncontent-encoding: gzip, gzip\r\n", b"x", 415, b"Received: gzip, gzip."),
    "after a question": (f"content-length: {len(FILE + END)}\r\nexpect: nothing\r\n", FILE + END, 200, b'"cat"'),
}


@pytest.mark.parametrize(("headers", "body", "status", "words"), LENGTHS.values(), ids=LENGTHS)
def test_the_length_of_a_body(port: int, headers: str, body: bytes, status: int, words: bytes) -> None:
    answer = ask(port, "POST", "/classify", FORM + headers, body, sized=False)
    assert answer.status == status and words in answer.body


LINE = b"GET /healthz HTTP/1.1\r\n"
RAW: dict[str, tuple[bytes, int]] = {
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    "lines of Unix": (b"GET /healthz HTTP/1.1\nhost: x\nconnection: close\n\n", 200),
    "an upgrade": (LINE + b"host: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n", 200),
    "thousands of headers": (LINE + b"host: x\r\nconnection: close\r\n" + b"a: 1\r\n" * 5000 + b"\r\n", 200),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400),
    "no host": (LINE + b"\r\n", 400),
    "two hosts": (LINE + b"host: x\r\nhost: y\r\n\r\n", 400),
    "a blank before the colon": (LINE + b"host : x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50), 400),
    "a path that is not ASCII": ("GET /ü HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), RAW.values(), ids=RAW)
def test_what_is_hardly_http(port: int, request_bytes: bytes, status: int) -> None:
    answer = send(port, request_bytes)
    assert answer.status == status and answer.body == (b'{"status":"ok"}' if status == 200 else NO_HTTP)
