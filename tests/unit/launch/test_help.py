"""``--help`` is complete and true: every choice, every setting with its meaning and the value that would run."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from distributed_cls.config import Config
from distributed_cls.config.registry import models
from distributed_cls.errors import UserError
from launch import help, schema
from launch.composition import CONF
from launch.help import print_help, wanted
from launch.suggestions import settings


@pytest.fixture(autouse=True)
def registered() -> None:
    schema.register()


def _shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    print_help([*arguments, "--help"])
    return capsys.readouterr().out


def test_help_lists_every_choice_and_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = _shown(capsys)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    for group in ("data", "model", "train", "cluster", "job", "experiment"):
        choices = ", ".join(sorted(path.stem for path in Path(CONF, group).glob("*.yaml")))
        assert re.search(rf"^ *{group}=… +{re.escape(choices)} *$", text, re.MULTILINE), group
    for name in settings():
        assert name == "model.name" or re.search(rf"^ *{re.escape(name)} ", text, re.MULTILINE), name
    words = " ".join(text.split())
    for section in dataclasses.fields(Config):
        kinds = models().values() if section.name == "model" else [section.type]
        for item in [item for kind in kinds if dataclasses.is_dataclass(kind) for item in dataclasses.fields(kind)]:
            assert item.name == "name" or item.metadata["doc"].split()[0] in words, item.name
    assert "hydra.run.dir" in text


def test_defaults_are_those_that_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    def default(text: str, name: str) -> str:
        found = re.search(rf"^ *{re.escape(name)} +(\S+)", text, re.MULTILINE)
        assert found, name
        return found.group(1)

    text = _shown(capsys)
    assert (default(text, "train.epochs"), default(text, "data.image_size")) == ("15", "32")  # not the dataclasses'
    assert default(_shown(capsys, "data=folder"), "data.image_size") == "224"


def test_one_section_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = _shown(capsys, "train")
    assert "train.learning_rate" in text and "data.name" not in text and "python -m launch" not in text
    with pytest.raises(UserError, match=r"Expected a section \(data, model, .*Received: --help trian"):
        _shown(capsys, "trian")


def test_the_examples_fit_a_narrow_terminal_and_can_be_composed(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [line for line in help._EXAMPLES.splitlines() if line.startswith("  python -m launch ")]
    assert len(examples) > 5 and max(map(len, help._EXAMPLES.splitlines()[1:])) <= 80
    for line in examples:
        words = shlex.split(line[2:52])[3:]
        if not any(word in ("-m", "--version") for word in words):
            print_help([word for word in words if not word.startswith("-") and "=" in word])
            assert "python -m launch" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["output", "train.epochs"])
def test_one_setting_can_be_asked_for(capsys: pytest.CaptureFixture[str], name: str) -> None:
    rows = [line.split()[0] for line in _shown(capsys, name).splitlines()[1:] if line.strip().startswith(name)]
    assert rows == [name]


@pytest.mark.parametrize("columns", ["wide", "20", "300"])
def test_any_width_is_taken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert 50 < max(len(line.rstrip()) for line in _shown(capsys, "train").splitlines()) <= 100


def test_help_is_asked_for() -> None:
    assert wanted(["--help"]) and wanted(["model=cnn", "-h"])
    assert not wanted(["model=cnn"])
