"""What the browser gets: one page, its style and its script, the API's documentation. Nothing comes from elsewhere."""

import functools
import importlib.resources
import re
from typing import Any

import jinja2

# The only files that are served, with their types; the folder itself is never looked into by a request.
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


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


def index(about: dict[str, Any], max_bytes: int) -> str:
    """The page for visitors. ``about`` is what ``GET /v1/models/<name>`` answers."""
    return _template("index.html").render(about=about, max_bytes=max_bytes, test=about["metrics"].get("test", {}))


def documentation(openapi: dict[str, Any], name: str, here: str) -> str:
    """The API's documentation as a plain page, made from its OpenAPI description.

    ``here`` is the address that the reader came by; the commands use it unless it holds more than a host, a
    port and a plain path.
    """
    here = here if re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?", here) else "http://127.0.0.1:8000"
    schemas = openapi["components"]["schemas"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            entry = {"path": path, "method": method.upper(), **operation, "example": _example(path, method, name, here)}
            entry["anchor"] = re.sub(r"[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-")
            groups.setdefault(operation["tags"][0], []).append(entry)
    order = ["answers", "model", "state"]
    return _template("docs.html").render(
        info=openapi["info"], groups=[(tag, groups[tag]) for tag in order if tag in groups], schemas=schemas
    )


def _example(path: str, method: str, name: str, here: str) -> str:
    """A command that works when pasted."""
    url = here + path.replace("{name}", name)
    if path == "/classify":
        return f"curl -F file=@photo.jpg '{url}?top=3'"
    if path == "/explain":
        return f"curl -F file=@photo.jpg -o heat.png '{url}'"
    if method == "post":
        return f"base64 -w0 photo.jpg | jq -R '{{\"instances\": [{{\"b64\": .}}]}}' |\n  curl --json @- '{url}'"
    return f"curl '{url}'"
