"""From a request's body to named image bytes. Everything a caller can get wrong has its own clear refusal."""

import base64
import json
import logging
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

_LONGEST_NAME = 200
# It warns of each body that it cannot understand, which the caller is told, and which would fill the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Picture:
    """An image as it was sent."""

    name: str
    data: bytes


class _InMemoryParser(MultiPartParser):
    """Keeps pictures in memory, where the guard counts them: no temporary files, of which there could be too many."""

    spool_max_size = 2**40


async def uploaded(request: Request, most: int) -> list[Picture]:
    """The files of a multipart body, whatever their fields are called. Raises HTTPException 400, 413, 415 or 422."""
    _expect_type(request, "multipart/form-data")
    # One more than allowed, so that too many is told apart from a body that cannot be understood.
    parser = _InMemoryParser(request.headers, request.stream(), max_files=most + 1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(most) from None
        raise HTTPException(400, error.message) from None
    except (ValueError, KeyError, LookupError) as error:
        raise HTTPException(400, f"The multipart body cannot be understood: {error}.") from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(422, f"Expected at least one file in the form. Received: {_no_file(list(form))}.")
        if len(files) > most:
            raise _too_many(most)
        return [Picture(shown_name(file.filename or ""), await file.read()) for file in files]
    finally:
        await form.close()


def _no_file(fields: list[str]) -> str:
    if not fields:
        return "none"
    name = shown_name(fields[0])
    return f"the field {name} without a file name (with curl: -F {name}=@photo.jpg)"


async def instances(request: Request, most: int) -> list[Picture]:
    """The images of a TensorFlow Serving (KServe V1) body. Raises HTTPException 400, 413 or 415.

    JSON is taken under whatever content type it comes: ``curl -d`` names none of its own and sends that of a form.
    """
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        _expect_type(request, "application/json")
        raise HTTPException(400, "The body is not JSON.") from None
    rows = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not rows:
        received = "an empty list" if rows == [] else "no list of instances"
        raise HTTPException(400, f'Expected {{"instances": [{{"b64": "…"}}, …]}}. Received: {received}.')
    signature = body.get("signature_name")
    if signature not in (None, "serving_default"):
        raise HTTPException(400, f"Expected signature_name to be serving_default. Received: {str(signature)[:100]!r}.")
    if len(rows) > most:
        raise _too_many(most)
    return [Picture(f"instance {index}", _decoded(row, index)) for index, row in enumerate(rows)]


def _decoded(row: Any, index: int) -> bytes:
    if isinstance(row, dict) and isinstance(row.get("image_bytes"), dict):
        row = row["image_bytes"]
    encoded = row.get("b64") if isinstance(row, dict) else None
    if not isinstance(encoded, str):
        raise HTTPException(400, f'Expected instance {index} to be {{"b64": "…"}}.')
    # As browsers (data: URIs), mail programs (line breaks) and URL-safe encoders (- and _, no padding) write it.
    encoded = re.sub(r"\s", "", re.sub(r"(?i)^\s*data:[^,]{0,200};base64,", "", encoded)).rstrip("=")
    if strange := re.search(r"[^A-Za-z0-9+/_-]", encoded):
        raise HTTPException(400, f"Expected instance {index} in base64. Received: the character {strange.group()!r}.")
    if len(encoded) % 4 == 1:
        raise HTTPException(
            400, f"Expected instance {index} in base64. Received: {len(encoded)} characters, cut short."
        )
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_" if re.search("[-_]", encoded) else None)


def shown_name(name: str) -> str:
    """A file name fit to be shown: without folders or control characters, and not too long. It is never opened."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(character for character in last if character.isprintable())
    return printable[:_LONGEST_NAME] or "image"


def _expect_type(request: Request, expected: str) -> None:
    received = request.headers.get("content-type", "")
    if received.split(";")[0].strip().lower() != expected:
        raise HTTPException(415, f"Expected content-type {expected}. Received: {received[:100] or 'none'}.")


def _too_many(most: int) -> HTTPException:
    return HTTPException(413, f"Expected at most {most} images in one request.")
