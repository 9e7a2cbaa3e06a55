"""What went wrong, out of the pages that Java and Py4J write. Pure functions."""

import re

from distributed_cls.spark.known_causes import known_cause, lost_executor
from distributed_cls.text import shortened

_MAX_CHARACTERS = 500

# "pkg.Class: message", as Py4J (": "), Java ("Exception in thread …") and a chain of causes ("Caused by: ") write it.
_EXCEPTION = re.compile(
    r"^(?P<lead>: |Caused by: |Exception in thread \"[^\"\n]*\" )?(?:[a-z_$][\w$]*\.)+"
    r"(?P<said>[A-Z][\w$]*(?:Exception|Error)[\w$]*(?:: .*)?)$",
    re.MULTILINE,
)
# What a Python worker raised: the line of its traceback that is not indented.
_RAISED = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+(?P<raised>\S.*)$", re.MULTILINE)
# Lines of a log that say nothing about a failure.
_NOTE = re.compile(r"\s*$|\s+at |WARNING: |NOTE: |Picked up \w+: |\d\d:\d\d:\d\d (?:INFO|WARN) ")


def java_reason(error: BaseException | str | None) -> str:
    """The cause and its remedy, where known; else Java's exception and its root cause, on one line, without stack.

    Of several exceptions the last one counts. Without any: the first line that is more than a note of a log.
    """
    text = str(error or "")
    known = known_cause(text)
    if known:
        return known
    first = root = ""
    for match in _EXCEPTION.finditer(text):
        root = match["said"].strip()
        if match["lead"] != "Caused by: " or not first:
            first = root
    if not first:
        first = root = next((line.strip() for line in text.splitlines() if not _NOTE.match(line)), "no reason given")
    # An exception that has no message of its own repeats its cause's.
    repeats = root in first or (": " in root and root.partition(": ")[2] in first)
    return shortened(first if repeats else f"{first}; caused by {root}", _MAX_CHARACTERS)


def task_reason(error: BaseException | None, limit: str | None = None) -> str:
    """Why an executor was lost, or what a Python worker raised, out of a Spark error; otherwise what Java says.

    limit: the memory limit of an executor's pod, where it is known.
    """
    lost = lost_executor(str(error or ""), limit)
    if lost:
        return lost
    raised = [match["raised"].strip() for match in _RAISED.finditer(str(error or ""))]
    return shortened(raised[-1], _MAX_CHARACTERS) if raised else java_reason(error)
