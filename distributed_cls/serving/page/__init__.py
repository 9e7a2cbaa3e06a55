"""What the browser gets: one page, its style and its script, the API's documentation. Nothing comes from elsewhere."""

import functools
import importlib.resources
import json
import re
from typing import Any
from urllib.parse import quote

import jinja2

from distributed_cls.contracts.codec import Json
from distributed_cls.serving import shapes

# The only files that are served, with their types; the folder itself is never looked into by a request.
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_LINE = 100  # characters of JSON that are shown on one line
_TITLES = {"answers": "Classify images", "model": "The model", "state": "Health and metrics"}  # of the tags


@functools.cache
def static(name: str) -> bytes:
    """The bytes of a file in ``STATIC``."""
    return (importlib.resources.files(__name__) / name).read_bytes()


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distributed_cls.serving", "page"), autoescape=True, trim_blocks=True
    )
    return environment.get_template(name)


def index(about: dict[str, Json], max_bytes: int, unclear_below: float) -> str:
    """The page for visitors. ``about`` is what ``GET /v1/models/<name>`` answers."""
    metrics = about["metrics"]
    test = metrics.get("test", {}) if isinstance(metrics, dict) else {}
    return _template("index.html").render(about=about, max_bytes=max_bytes, unclear_below=unclear_below, test=test)


def documentation(openapi: dict[str, Any], name: str, version: str, here: str) -> str:
    """The API's documentation as a plain page, made from its OpenAPI description.

    ``here`` is the address that the reader came by; the commands use it unless it holds more than a host, a
    port and a plain path.
    """
    here = here if re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?", here) else "http://127.0.0.1:8000"
    groups: dict[str, list[dict[str, Any]]] = {tag: [] for tag in _TITLES}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            entry = {"path": path, "method": method.upper(), **operation, **_answer(operation)}
            entry["example"] = _example(path, method, name, version, here)
            entry["anchor"] = re.sub(r"[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-")
            groups[operation["tags"][0]].append(entry)
    titled = [(_TITLES[tag], operations) for tag, operations in groups.items()]
    return _template("docs.html").render(info=openapi["info"], name=name, groups=titled, errors=shapes.ERROR_MEANINGS)


def _answer(operation: dict[str, Any]) -> dict[str, Any]:
    """The kind of an operation's answer, an example of it where it is JSON, and the codes of its errors."""
    (kind, content), *_ = operation["responses"]["200"]["content"].items()
    reference = content["schema"].get("$ref", "").rsplit("/")[-1]
    # From the shape itself: the OpenAPI description has its keys in alphabetical order.
    example = getattr(shapes, reference).model_config["json_schema_extra"]["example"] if reference else None
    short = json.dumps(example)
    answer = short if len(short) <= _LINE else json.dumps(example, indent=2)
    codes = [code for code in operation["responses"] if code != "200"]
    return {"kind": kind, "answer": answer if reference else "", "errors": codes}


def _example(path: str, method: str, name: str, version: str, here: str) -> str:
    """A command that works when pasted."""
    url = here + path.replace("{name}", quote(name)).replace("{version}", version)
    if path == "/classify":
        return f"curl -F file=@photo.jpg '{url}?top=3'"
    if path == "/explain":
        return f"curl -F file=@photo.jpg -o heat.png '{url}'"
    if method == "post":
        return f"base64 -w0 photo.jpg | jq -R '{{\"instances\": [{{\"b64\": .}}]}}' |\n  curl --json @- '{url}'"
    return f"curl '{url}'"
