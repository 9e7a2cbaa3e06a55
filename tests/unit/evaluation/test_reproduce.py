"""The command to repeat a run, read back by Hydra's own parser."""

import dataclasses
import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from distributed_cls.config import ClusterConfig, Config, DataConfig, DenseConfig, TrainConfig
from distributed_cls.evaluation.reproduce import command


def parsed(line: str) -> dict[str, Any]:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "launch"]
    return {item.key_or_group: item.value() for item in OverridesParser.create().parse_overrides(words[3:])}


def summary(config: Config) -> dict[str, Any]:
    return {"config": dataclasses.asdict(config)}


def test_defaults_need_only_their_choices() -> None:
    choices = {"data": "digits", "model": "cnn", "cluster": "local", "job": "pipeline"}
    assert parsed(command(summary(Config())) or "") == choices


PATHS = ["/plain/path", "s3://bucket/cars", "/with space/it's, =here", "C:\\cars", "a\\'b\\", "日本", "null", "a[2]"]


@pytest.mark.parametrize("path", PATHS)
def test_every_changed_setting_survives(path: str) -> None:
    config = Config(
        data=DataConfig(name="cars", source="folder", path=path, split=[0.8, 0.1, 0.1]),
        model=DenseConfig(units=[64]),
        train=TrainConfig(epochs=3, learning_rate=1e-5, flip=True, patience=2),
        cluster=ClusterConfig(name="standalone", master=None, spark={"spark.executor.memory": "4g"}),
    )
    found = parsed(command(summary(config)) or "")
    assert found == {
        "data": "folder",
        "model": "dense",
        "cluster": "standalone",
        "job": "pipeline",
        "data.name": "cars",
        "data.path": path,
        "data.split": [0.8, 0.1, 0.1],
        "model.units": [64],
        "train.epochs": 3,
        "train.learning_rate": 1e-5,
        "train.flip": True,
        "train.patience": 2,
        "cluster.master": None,
        "cluster.spark": {"spark.executor.memory": "4g"},
    }


def test_a_given_command_is_kept() -> None:
    assert command({"command": ["python", "-m", "launch", "data.path=/a b"]}) == "python -m launch 'data.path=/a b'"
    assert command({"command": "python -m launch"}) == "python -m launch"


def test_without_a_configuration_there_is_none() -> None:
    assert command({}) is None
