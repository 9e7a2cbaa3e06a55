"""What an agent and its warm process say to each other: JSON lines over a Unix socket, in one machine.

With a ``ForkRequest`` go the file descriptors that the new process takes over, in the order of ``DESCRIPTORS``.
"""

import json
from dataclasses import dataclass
from typing import ClassVar

from distributed_cls.contracts import codec

# What becomes of the descriptors of a request in the new process: its standard input, its standard output and error,
# the pipe of its events, and two places in memory for its latest states.
DESCRIPTORS = ("input", "output", "events", "state_0", "state_1")


@dataclass(frozen=True)
class ForkRequest:
    """Fork a process that takes over the descriptors that come with this, and has these environment variables."""

    kind: ClassVar[str] = "fork"
    environment: dict[str, str]


@dataclass(frozen=True)
class SignalRequest:
    """Send a signal to a process that was forked for this agent, unless it has ended."""

    kind: ClassVar[str] = "signal"
    pid: int
    number: int


@dataclass(frozen=True)
class Forked:
    """The answer to a ``ForkRequest``."""

    kind: ClassVar[str] = "forked"
    pid: int


@dataclass(frozen=True)
class Exited:
    """A process that was forked for this agent has ended. ``code``: its exit code, or minus the signal's number."""

    kind: ClassVar[str] = "exited"
    pid: int
    code: int


Message = ForkRequest | SignalRequest | Forked | Exited

_KINDS: dict[str, type[Message]] = {kind.kind: kind for kind in (ForkRequest, SignalRequest, Forked, Exited)}


def dumps(message: Message) -> bytes:
    """The message as a line."""
    return codec.dumps({"message": message.kind, **codec.to_plain(message)}).encode() + b"\n"


def loads(line: bytes) -> Message:
    """The message again. Raises ValueError when it is damaged. No version: both ends run the same code."""
    content = json.loads(line)
    kind = content.pop("message", None) if isinstance(content, dict) else None
    if kind not in _KINDS:
        raise ValueError(f"expected a message of the kinds {', '.join(_KINDS)}, received {line[:80]!r}")
    return codec.from_plain(_KINDS[kind], content, f"message {kind}")
