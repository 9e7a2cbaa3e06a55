"""The commands of the stories and of the guide to using a model are ones that the launcher understands."""

import re
import shlex
from pathlib import Path

import hydra
import pytest

from launch import schema
from launch.composition import CONF

DOCS = Path(__file__).parents[3] / "docs"
PAGES = [*sorted((DOCS / "stories").glob("*.md")), DOCS / "serving.md"]


def commands(page: Path) -> list[list[str]]:
    """The settings of each ``python -m launch`` of a page; lines that end in a backslash go on."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(?:\$ )?python -m launch (.+)$", text, re.MULTILINE)
    return [shlex.split(command, comments=True) for command in found]


@pytest.mark.parametrize(
    "settings", [pytest.param(words, id=" ".join(words)[:60]) for page in PAGES for words in commands(page)]
)
def test_a_command_can_be_composed(settings: list[str]) -> None:
    schema.register()
    chosen = [word for word in settings if not word.startswith("hydra.")]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=CONF):
        config = schema.to_config(hydra.compose("config", overrides=chosen))
    for word in chosen:
        name, value = word.split("=", 1)
        if name.startswith(("train.", "serve.", "stream.")):  # a setting, and not the choice of a group
            section, field = name.split(".")
            assert str(getattr(getattr(config, section), field)).lower() == value.lower()


def test_there_are_commands() -> None:
    assert all(commands(page) for page in PAGES)
