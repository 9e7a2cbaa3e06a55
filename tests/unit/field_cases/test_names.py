"""Names of files and folders as they lie on people's disks: each picture is kept, under its own class."""

import os
import unicodedata
from pathlib import Path

import pytest

from distributed_cls.dataset import verify
from distributed_cls.errors import UserError
from distributed_cls.inference import slices
from distributed_cls.text import printable

from .conftest import Prepared, kept_by_class, picture, rejects

COUNT = 6  # images per class folder


def fill(root: Path, *names: str | bytes) -> Path:
    """Class folders of these names (bytes: as they lie on the disk), each with ``COUNT`` pictures."""
    for number, name in enumerate(names):
        folder = os.path.join(os.fsencode(root), os.fsencode(name))  # noqa: PTH118 - pathlib knows no bytes
        os.makedirs(folder)  # noqa: PTH103
        for image in range(COUNT):
            with open(folder + b"/%d.png" % image, "wb") as stream:  # noqa: PTH123
                stream.write(picture(number * COUNT + image))
    return root


CLASS_NAMES = {
    "direction turned": ("a\u202egnp", "b"),
    "zero width": ("ca\u200bt", "cat"),
    "newline": ("c\nt", "cat"),
    "tab": ("c\tt", "cat"),
    "escape": ("c\x1b[31mt", "cat"),
    "255 bytes": ("x" * 255, "狗" * 85),
    "dot at the end": ("cat.", "cat"),
    "blank at the end": ("cat ", "cat"),
    "blank at the start": (" cat", "cat"),
    "nothing but blanks": (" ", "\u00a0", "cat"),
    "dash at the start": ("-cat", "--help"),
    "pattern": ("[cat]", "c*t", "c?t", "{a,b}"),
    "percent": ("a%20b", "a b"),
    "hash and question mark": ("a#b", "a?b"),
    "emoji": ("🐈\u200d⬛", "🐕"),
    "reserved on Windows": ("CON", "NUL", "com1"),
    "upper and lower case": ("Cat", "cat"),
    "backslash": ("a\\b", "a/b".replace("/", "\u2215")),
    "words for nothing": ("null", "None", "nan", "~"),
    "numbers": ("1", "01", "10", "2"),
    "markup": ("<script>alert(1)<", "&amp;", "\"q'"),
    "ligature": ("\ufb01sh", "fish"),
    "Turkish i": ("İ", "i", "ı"),
    "like a table": ("train.parquet", "b.csv"),
    "as Spark marks its own": ("_SUCCESS", "_temporary"),
    "a chain of fsspec": ("a::b", "simplecache::c"),
    "a variable": ("$HOME", "${data.path}", "%(here)s"),
}


@pytest.mark.parametrize("names", CLASS_NAMES.values(), ids=CLASS_NAMES)
def test_a_class_folder_of_any_name_is_a_class(prepared: Prepared, tmp_path: Path, names: tuple[str, ...]) -> None:
    root = fill(tmp_path / "in", *names)
    dataset = prepared(root)
    assert kept_by_class(dataset) == dict.fromkeys(names, COUNT)
    assert verify.verify(dataset.path).records == COUNT * len(names)
    assert prepared(root).reused
    truths = [item.truth for item in slices.items(slices.find_slices(str(root)), [*names])]
    assert sorted(str(truth) for truth in truths) == sorted(COUNT * names)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("Ångström", unicodedata.normalize("NFD", "Ångström"), "b"), {"b": 6, "Ångström": 12}),
        (("한국", unicodedata.normalize("NFD", "한국"), "b"), {"b": 6, "한국": 12}),
        ((b"\xff\xfe", b"\x81", b"ok"), {"ok": 6, "\x81": 6, "ÿþ": 6}),
        ((b"caf\xe9", "café", "b"), {"b": 6, "café": 12}),
        (("a\uef80", "b"), {"aî¾€": 6, "b": 6}),  # our own mark for a raw byte, as a name that is really so
        (("Thumbs.db", "..x", "b", "c"), {"b": 6, "c": 6}),
    ],
    ids=["accents", "Hangul", "no UTF-8", "Latin-1 beside UTF-8", "private use", "junk"],
)
def test_names_that_are_one_class_or_none(
    prepared: Prepared, tmp_path: Path, names: tuple[str | bytes, ...], classes: dict[str, int]
) -> None:
    root = fill(tmp_path / "in", *names)
    assert kept_by_class(prepared(root)) == classes
    assert prepared(root).reused


FILE_NAMES = [
    *("x" * 251 + ".png", "-rf.png", " .png", "a\n.png", "a%20b#c?.png", "[1]*.png", "noextension", "a.PNG", "a.png "),
    *("a.jpg", "a.txt", "a.png.bak", "Icon", "\u202egnp.exe", "🐈.png", "CON", "a\\b.png", "a::b.png"),
]


def test_pictures_of_any_name_are_kept_and_known_again(prepared: Prepared, tmp_path: Path) -> None:
    root = fill(tmp_path / "in", "cat", "dog")
    for number, name in enumerate(FILE_NAMES):
        (root / "cat" / name).write_bytes(picture(100 + number))
    dataset = prepared(root)
    assert kept_by_class(dataset) == {"cat": COUNT + len(FILE_NAMES), "dog": COUNT} and rejects(dataset) == {}
    items = list(slices.items(slices.find_slices(str(root)), ["cat", "dog"]))
    assert len(items) == 2 * COUNT + len(FILE_NAMES)
    assert all(item.read().startswith(b"\x89PNG") for item in items)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\u202eb", r"a\u202eb"),
        ("a\u200bb", r"a\u200bb"),
        ("\ufeffpath", r"\ufeffpath"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("a\u00adb", r"a\xadb"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian is written with it
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_cannot_be_seen_is_written_out(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_picture_with_a_hidden_name_is_told_so_that_it_can_be_found(prepared: Prepared, tmp_path: Path) -> None:
    root = fill(tmp_path / "in", "cat", "dog")
    (root / "cat" / "a\u202egnp.exe").write_bytes(b"MZ")
    with pytest.raises(UserError, match=r"for example cat/a\\u202egnp\.exe: starts with 4d 5a\)"):
        prepared(root, max_reject_fraction=0.0)
