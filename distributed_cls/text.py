"""Names as text: for one line of a terminal, as a class, and as a file's name whose bytes are no valid UTF-8."""

import re
import unicodedata

# A byte of a file's name that is not UTF-8 is held as a character of its own: U+EF80 to U+EFFF, private use, so that
# the name is valid text for Arrow, JSON and Java. Python's own way, lone surrogates, is refused by all three.
_RAW = 0xEF00
_RAW_RUN = re.compile("[\uef80-\uefff]+")
# What no terminal shows, and what turns the direction of writing, so that a name reads as another one.
_HIDDEN = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_FOREIGN_RUN = re.compile("[\udc80-\udcff\uef80-\uefff]+")


def printable(text: str) -> str:
    """A name for one line of a terminal: what would break the line or steer the terminal is written out."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if _RAW + 0x80 <= ord(character) <= _RAW + 0xFF:
        return f"\\x{ord(character) - _RAW:02x}"
    steers = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _HIDDEN.match(character)
    return repr(character)[1:-1] if steers else character


def first_line(error: BaseException | str) -> str:
    """The first line of an error's text that says something, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def shortened(text: str, characters: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def nfc(text: str) -> str:
    """One spelling for each name: macOS writes accents apart from their letters, others do not."""
    return unicodedata.normalize("NFC", text)


def has_foreign_bytes(text: str) -> bool:
    """Whether a text of ``from_file_name`` stands for a name that is not valid UTF-8."""
    return not text.isascii() and _RAW_RUN.search(text) is not None


def class_name(text: str) -> str:
    """The class that a folder's name, or a label in a table, stands for: NFC.

    A name of a file system that is not UTF-8 is read as Windows-1252, which most such names are written in.
    """
    if _RAW_RUN.search(text):
        data = to_file_name(text).encode("utf-8", "surrogateescape")
        text = "".join(_western(byte) for byte in data)
    return nfc(text)


def _western(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing there
        return chr(byte)


def from_file_name(name: str) -> str:
    """A path as Python gives it (``os.scandir``, ``sys.argv``) as valid text; ``to_file_name`` reverses it."""
    return name if name.isascii() else _FOREIGN_RUN.sub(lambda run: _as_raw(run[0]), name)


def _as_raw(run: str) -> str:
    # Characters that stand for bytes here are written as bytes themselves, so that the way back is unambiguous.
    return "".join(chr(_RAW + byte) for byte in run.encode("utf-8", "surrogateescape"))


def to_file_name(text: str) -> str:
    """The path that Python's file functions take for a text of ``from_file_name``; any other text is itself."""
    if text.isascii():
        return text
    return _RAW_RUN.sub(
        lambda run: bytes(ord(character) - _RAW for character in run[0]).decode("utf-8", "surrogateescape"), text
    )
