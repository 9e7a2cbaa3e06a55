"""What went wrong, out of the pages that Java and Py4J write. Pure functions."""

import re

_MAX_CHARACTERS = 500
# Py4J's text is "An error occurred while calling …\n: <exception>"; causes follow as "Caused by: <exception>".
_EXCEPTION = re.compile(r"^(?:: |Caused by: )(.+)$", re.MULTILINE)
# What a Python worker raised; the last line of its traceback says what.
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Failed): (?!Traceback ).+$", re.MULTILINE)
_PACKAGE = re.compile(r"^(?:[a-z_$][\w$]*\.)+(?=[A-Z])")
_LOGGED = re.compile(r"^.*(?:Exception|Error)\b.*: .+$", re.MULTILINE)


def java_reason(error: BaseException | str | None) -> str:
    """The exception of Java and its root cause on one line, without packages and stack."""
    text = str(error or "")
    found = [_PACKAGE.sub("", match.strip()) for match in _EXCEPTION.findall(text)]
    if not found:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return (lines or ["no reason given"])[0][:_MAX_CHARACTERS]
    first, root = found[0], found[-1]
    return (first if first == root else f"{first}; caused by {root}")[:_MAX_CHARACTERS]


def task_reason(error: BaseException | None) -> str:
    """What a Python worker raised, out of a Spark error; otherwise what Java says."""
    raised = _RAISED.findall(str(error or ""))
    return str(raised[0])[:_MAX_CHARACTERS] if raised else java_reason(error)


def logged_reason(log: str) -> str | None:
    """The last line of a log of Spark's that names an exception; None when no line does."""
    lines = _LOGGED.findall(log)
    return _PACKAGE.sub("", str(lines[-1]).strip())[:_MAX_CHARACTERS] if lines else None
