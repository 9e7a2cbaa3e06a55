"""What the driver orders of the agents of a crew, and how an agent reports: JSON over the control channel.

An order carries the number of the attempt that it belongs to, and so does every report: what a rank of an earlier
attempt still had to say is told from what the present one says.
"""

import json
from dataclasses import dataclass
from typing import ClassVar

from distributed_cls.contracts import codec, events
from distributed_cls.contracts.events import Event

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Order:
    """The driver wants something of an agent, for the attempt of this number."""

    kind: ClassVar[str]
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Meet(Order):
    """Reserve a port and answer with ``events.Met``: the first half of a rendezvous."""

    kind = "meet"
    dataset: str  # folder whose fingerprint is asked for
    marker: str  # path of a file that the driver has left in the run folder


@dataclass(frozen=True, kw_only=True)
class StartRank(Order):
    """Start a rank's process: the second half of a rendezvous."""

    kind = "start"
    job: str  # attempts of one job go on from each other's states in memory
    assignment: str  # JSON text of a ``RankAssignment``; only the rank's process, which has its plug-ins, reads it
    tf_config: str  # JSON text
    hosts: list[str]  # of all ranks


@dataclass(frozen=True, kw_only=True)
class StopRank(Order):
    """End the rank's process: at once, or after ``grace_seconds`` in which it may write a checkpoint."""

    kind = "stop"
    grace_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReleaseRank(Order):
    """Let a rank's process go that has reported its result: all ranks have."""

    kind = "release"


@dataclass(frozen=True, kw_only=True)
class DumpStacks(Order):
    """Let the rank's process write the Python stack of each of its threads to its log."""

    kind = "dump_stacks"


@dataclass(frozen=True, kw_only=True)
class Leave(Order):
    """End the rank, the warm process and the barrier task."""

    kind = "leave"


_KINDS: dict[str, type[Order]] = {
    kind.kind: kind for kind in (Meet, StartRank, StopRank, ReleaseRank, DumpStacks, Leave)
}


def dumps(order: Order) -> str:
    """The order as JSON text."""
    return codec.dumps({"order": order.kind, "v": SCHEMA_VERSION, **codec.to_plain(order)})


def loads(text: str) -> Order:
    """The order again. Raises ValueError: damaged, of an unknown kind, or of another version."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop("v", None) != SCHEMA_VERSION:
        raise ValueError(f"expected an order of schema version {SCHEMA_VERSION}, received {text[:80]!r}")
    kind = content.pop("order", None)
    if kind not in _KINDS:
        raise ValueError(f"expected an order of the kinds {', '.join(_KINDS)}, received {kind!r}")
    return codec.from_plain(_KINDS[kind], content, f"order {kind}")


def dump_report(attempt: int, event_line: str) -> str:
    """An event, as JSON text already, of the rank's process or its agent in an attempt."""
    return f'{{"attempt": {attempt}, "event": {event_line}}}'


def load_report(text: str) -> tuple[int, Event]:
    """The attempt and the event again. Raises ValueError when they are damaged."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.keys() != {"attempt", "event"} or type(content["attempt"]) is not int:
        raise ValueError(f"expected a report, received {text[:80]!r}")
    return content["attempt"], events.from_content(content["event"])
