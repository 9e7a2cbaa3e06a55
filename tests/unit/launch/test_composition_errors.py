"""One line for whatever Hydra and OmegaConf raise."""

import shlex
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from launch import composition_errors, schema
from launch.__main__ import CONF

from .conftest import Composed


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model=resnt", ["Expected model to be one of cnn, dense, resnet.", "Received: model=resnt."]),
        ("cluster=gpu5", ["gpu1, gpu4", "Received: cluster=gpu5."]),
        ("experiment=boats", ["cars, clothes, search", "experiment=boats"]),
        ("train.epoch=3", ["Unknown setting train.epoch. Did you mean train.epochs?", "--help train"]),
        ("train.epocs=3", ["Unknown setting train.epocs. Did you mean train.epochs?"]),
        ("model.unit=3", ["Unknown setting model.unit. Did you mean model.units?"]),
        ("model.dropot=0.1", ["Did you mean model.dropout?"]),
        ("train.lr=0.1", ["Unknown setting train.lr. Did you mean train.learning_rate?"]),
        ("lr=0.1", ["Unknown setting lr. Did you mean train.learning_rate?"]),
        ("epochs=3", ["Unknown setting epochs. Did you mean train.epochs?"]),
        ("workers=3", ["Did you mean cluster.workers?"]),
        ("modell=cnn", ["Unknown setting modell. Did you mean model?"]),
        ("dataset_rot=/data", ["Unknown setting dataset_rot. Did you mean dataset_root?"]),
        ("cluster.spark.spark.executor.memory=4g", ["one mapping"]),
        ("train.epochs=three", ["train.epochs must be a whole number; got 'three'."]),
        ("train.epochs=1.5", ["train.epochs must be a whole number; got '1.5'."]),
        ("train.learning_rate=fast", ["train.learning_rate must be a number; got 'fast'."]),
        ("train.flip=perhaps", ["train.flip must be true or false; got 'perhaps'."]),
        ("train.epochs=null", ["train.epochs must have a value; got null."]),
        (
            "data=folder",
            ["Expected data.path to be a folder with one sub-folder of images per class. Received: data.path=null."],
        ),
        ("cluster=standalone", ["Expected cluster.master to be", "spark://host:port", "Set cluster.master=…"]),
        ("train.epochs=[", ["brackets and quotes closed. Received: train.epochs=[."]),
        ("train.batch_size=1", ["Expected train.batch_size to be at least cluster.workers=2"]),
        ("data.source=web", ["Expected data.source to be one of digits, fashion_mnist, folder"]),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line(composed: Composed, override: str, parts: list[str]) -> None:
    with pytest.raises(Exception) as raised:
        composed(override)
    line = composition_errors.one_line(raised.value)
    assert "\n" not in line and len(line) < 400
    assert "Traceback" not in line and "None" not in line
    for part in parts:
        assert part in line, line


@pytest.fixture
def hydra() -> Iterator[None]:
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=CONF, version_base="1.3"):
        yield


@pytest.mark.parametrize(
    "value",
    ["/pics/Citroën", "a#1", "a,b", "it's", "C:\\pics\\new", "a b(1)", "local[2]", "x=$HOME", 'say "hi"', "`ls`"],
)
@pytest.mark.usefixtures("hydra")
def test_a_value_with_special_characters_is_quoted_so_that_it_works(value: str) -> None:
    """What the line tells to write, read as a shell and Hydra read it, is the user's value."""
    try:
        composed = compose("config", overrides=[f"data.path={value}"])
        assert composed.data.path == value  # Hydra takes some of these without quotes
        return
    except Exception as error:
        line = composition_errors.one_line(error)
    assert f"Received: data.path={value}." in line
    advice = line.split(" Write ")[1].split(" For several trials")[0].removesuffix(".")
    [word] = shlex.split(advice)
    assert compose("config", overrides=[word]).data.path == value
