"""A server that speaks as much of S3 as a listing needs (ListObjectsV2), for buckets of any size.

As a program it serves ``count`` objects, says its port, and ends with its standard input.
"""

import bisect
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

BUCKET = "pictures"
PAGE = 1000
ETAG = "0123456789abcdef0123456789abcdef"


def synthetic_keys(count: int) -> list[str]:
    """Keys of images, three quarters of them in one prefix, in the order of a listing."""
    few = count // 4
    names = [f"a_file_name_of_usual_length_{number:08d}.jpg" for number in range(count)]
    return [f"in/cat/{name}" for name in names[few:]] + [f"in/dog/{name}" for name in names[:few]]


def page(keys: list[str], prefix: str, delimiter: str, token: str) -> str:
    """The answer to one ListObjectsV2 request; the token is the last key (or prefix) of the page before."""
    at = bisect.bisect_left(keys, prefix)
    if token:
        before = bytes.fromhex(token).decode()
        at = bisect.bisect_left(keys, before + ("\U0010ffff" if delimiter and before.endswith(delimiter) else "\0"))
    parts: list[str] = []
    last = ""
    while at < len(keys) and keys[at].startswith(prefix) and len(parts) < PAGE:
        last, inner = keys[at], keys[at][len(prefix) :]
        if delimiter and delimiter in inner:
            last = prefix + inner.split(delimiter)[0] + delimiter
            parts.append(f"<CommonPrefixes><Prefix>{quote(last)}</Prefix></CommonPrefixes>")
            at = bisect.bisect_left(keys, last + "\U0010ffff")
            continue
        parts.append(
            f"<Contents><Key>{quote(last)}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>&quot;{ETAG}&quot;</ETag><Size>{0 if last.endswith('/') else 50_000}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
        at += 1
    more = at < len(keys) and keys[at].startswith(prefix)
    following = f"<NextContinuationToken>{last.encode().hex()}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType><KeyCount>{len(parts)}</KeyCount>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{''.join(parts)}</ListBucketResult>"
    )


def serve(keys: list[str]) -> ThreadingHTTPServer:
    """Serve a bucket of these keys (in the order of UTF-8) on a free port, from a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            where = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(where.query).items()}
            if where.path.strip("/") != BUCKET:
                self._answer(404, "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>")
            elif asked.get("prefix", "").startswith("secret/"):
                self._answer(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            else:
                names = (asked.get(name, "") for name in ("prefix", "delimiter", "continuation-token"))
                self._answer(200, page(keys, *names))

        def do_HEAD(self) -> None:
            self._answer(200 if self.path.strip("/") == BUCKET else 404, "")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    print(serve(synthetic_keys(int(sys.argv[1]))).server_port, flush=True)
    sys.stdin.read()
