"""Names: every sequence of bytes is a name, and every name valid text that leads back to it."""

import json
import os
import unicodedata

import pytest

from distributed_cls.text import class_name, from_file_name, printable, to_file_name

NAMES = [b"plain.png", "Citroën 狗.png".encode(), b"caf\xe9.png", b"Citro\xebn", b"\xff\xfe\x80"]
NAMES += ["\uef80\uefff".encode(), b"\xe9\xee\xbe\x80", b"half \xe7\x8b", "e\u0301".encode(), bytes(range(0x80, 0x100))]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_valid_text_and_leads_back(name: bytes) -> None:
    text = from_file_name(os.fsdecode(name))
    assert text.encode("utf-8") and json.loads(json.dumps(text, ensure_ascii=False)) == text
    assert os.fsencode(to_file_name(text)) == name
    assert printable(text).isprintable()


def test_names_that_are_utf_8_stay_as_they_are() -> None:
    assert from_file_name("Citroën 狗 \U0001f697") == "Citroën 狗 \U0001f697"


def test_what_is_not_utf_8_is_shown_as_its_bytes() -> None:
    assert printable(from_file_name(os.fsdecode(b"caf\xe9.png"))) == "caf\\xe9.png"


@pytest.mark.parametrize(
    "name", ["Citroën".encode(), unicodedata.normalize("NFD", "Citroën").encode(), "Citroën".encode("cp1252")]
)
def test_a_class_has_one_name_whatever_the_file_system_writes(name: bytes) -> None:
    assert class_name(from_file_name(os.fsdecode(name))) == "Citroën"
