"""Words for one line of a terminal."""

import unicodedata


def printable(text: str) -> str:
    """A name for one line of a terminal: what would break the line or steer the terminal is written out."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
