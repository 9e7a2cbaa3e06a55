"""One line out of the pages that Java, Py4J and Spark write when something fails. Pure functions."""

import re

_MAX_CHARACTERS = 400

# "pkg.Class: message", as Py4J (": "), Java ("Exception in thread …") and a chain of causes ("Caused by: ") write it.
_EXCEPTION = re.compile(
    r"^(?P<lead>: |Caused by: |Exception in thread \"[^\"\n]*\" )?"
    r"(?:[A-Za-z_]\w*\.)+(?P<name>[A-Z][\w$]*(?:Exception|Error)[\w$]*)(?:: (?P<message>.*))?$",
    re.MULTILINE,
)
# The last line of a Python traceback: the first one that is not indented.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+(?P<raised>[^\s].*)$", re.MULTILINE)
_NOTES = re.compile(r"^(?:WARNING: |Picked up \w+: |NOTE: |\s*at |\d\d:\d\d:\d\d \S* ?(?:WARN|INFO))")


def reason(text: str) -> str:
    """What happened, on one line of at most 400 characters, out of an exception's text or a log of Java's.

    First choice: what a Python worker raised; then the last Java exception, with the cause that it was traced back to;
    then the first line that is more than a note.
    """
    found = _python_exception(text) or _java_exception(text) or _first_line(text) or "no reason given"
    return found if len(found) <= _MAX_CHARACTERS else found[: _MAX_CHARACTERS - 1] + "…"


def _python_exception(text: str) -> str:
    raised = [match["raised"].strip() for match in _TRACEBACK.finditer(text)]
    return re.sub(r"^(?:\w+\.)+(?=\w+(?::|$))", "", raised[-1]) if raised else ""


def _java_exception(text: str) -> str:
    outer, causes = "", list[str]()
    for match in _EXCEPTION.finditer(text):
        message = (match["message"] or "").strip()
        line = f"{match['name']}: {message}" if message else match["name"]
        if match["lead"] == "Caused by: " and outer:
            causes.append(line)
        else:
            outer, causes = line, []
    if not causes or _is_said(causes[-1], outer):
        return outer
    return f"{outer} (cause: {causes[-1]})"


def _is_said(cause: str, outer: str) -> bool:
    """Whether the outer exception's message repeats its cause, as Java's does when it has none of its own."""
    return cause.partition(": ")[2] in outer if ": " in cause else cause in outer


def _first_line(text: str) -> str:
    lines = (line.strip() for line in text.splitlines() if line.strip() and not _NOTES.match(line))
    return next(lines, "")
