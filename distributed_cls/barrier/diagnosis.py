"""What an operator needs out of what TensorFlow and Python write when something fails. Pure functions."""

import re
from collections.abc import Sequence

_MAX_CHARACTERS = 400
_TAIL_LINES = 8

# Lines of a log or a message that say nothing about the failure: stack frames, and absl's notes at start-up.
_NOISE = re.compile(
    r"^\s*$|^\s*File \"|^\s*[\^~]+\s*$|^[IWE]\d{4} |^\d{4}-\d\d-\d\d .*: [IWE] "
    r"|^WARNING: All log messages before absl|^To enable the following instructions: |^Detected at node"
)


def without_stack_trace(message: str) -> str:
    """An exception's message on one line, without the stack that TensorFlow writes into it."""
    lines = [line.strip() for line in message.splitlines() if not _NOISE.match(line)]
    return " ".join(lines)[:_MAX_CHARACTERS]


def last_informative_lines(log: Sequence[str]) -> list[str]:
    """The last lines of a rank's log that say something."""
    return [line for line in log if not _NOISE.match(line)][-_TAIL_LINES:]
