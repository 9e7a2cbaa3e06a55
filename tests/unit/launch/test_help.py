"""``--help`` is complete: every group with its choices, every setting with its meaning."""

import dataclasses
import re
from pathlib import Path

import pytest

from distributed_cls.config import MODELS, Config
from launch.__main__ import CONF
from launch.help import print_help, wanted


def test_help_lists_every_choice_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(CONF)
    text = capsys.readouterr().out
    for group in ("data", "model", "train", "cluster", "job", "experiment"):
        choices = ", ".join(sorted(path.stem for path in Path(CONF, group).glob("*.yaml")))
        assert re.search(rf"^ *{group} +{group}=… +{re.escape(choices)} *$", text, re.MULTILINE), group
    words = " ".join(text.split())
    for section in dataclasses.fields(Config):
        kinds = MODELS.values() if section.name == "model" else [section.type]
        for kind in kinds:
            inside = dataclasses.is_dataclass(kind)
            for item in dataclasses.fields(kind) if inside else [section]:
                if inside and item.name == "name":  # chosen by the group
                    continue
                name = f"{section.name}.{item.name}" if inside else section.name
                assert re.search(rf"^ *{re.escape(name)} ", text, re.MULTILINE), name
                assert item.metadata["doc"].split(";")[0][:60] in words, name


def test_help_is_asked_for() -> None:
    assert wanted(["launch", "--help"]) and wanted(["launch", "model=cnn", "-h"])
    assert not wanted(["launch", "model=cnn"])
