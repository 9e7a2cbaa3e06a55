"""Whole files or none: every write lands under a temporary name beside its target and is then renamed."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from distributed_cls.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it there on success, remove it on any failure."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A stream into a local file, durably: a reader sees the old file or the whole new one."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut could leave the new name on an empty file


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to a local file, whole or not at all."""
    with writing(path) as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """Read a JSON file that this project wrote. ``what`` and ``remedy`` go into the error for the user."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"Expected {what} at {path}. Received: no such file. {remedy}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"Expected {what} at {path}. Received: damaged JSON ({error}). {remedy}") from None
