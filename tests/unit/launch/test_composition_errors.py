"""One line for whatever Hydra and OmegaConf raise."""

import re
import shlex
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from distributed_cls.errors import UserError
from launch import composition_errors, schema, text_values
from launch.composition import CONF

from .conftest import Composed


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "model=resnt",
            ["Expected model to be one of backbone, cnn, dense, resnet, resnet_small.", "Received: model=resnt."],
        ),
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
        ("seed=3", ["Did you mean data.seed or train.seed?"]),
        ("batch_size=3", ["Did you mean train.batch_size or predict.batch_size?"]),
        ("train.path=3", ["Did you mean data.path?"]),
        ("name=cars", ["Did you mean data.name?"]),
        ("train.epochs.most=3", ["Unknown setting train.epochs.most. Did you mean train.epochs?"]),
        (
            "model.network=a",
            ["model.network is a setting of model=backbone. The chosen model=cnn has model.batch_norm,"],
        ),
        ("hydra.run.dri=x", ["Did you mean hydra.run.dir?"]),
        ("hydra.sweeper.n_trials=3", ["add -m experiment=search"]),
        ("data.split={a:1}", ["data.split must be a list, such as [1,2]; got {a:1}."]),
        ("cluster.spark=[1]", ["cluster.spark must be a mapping, such as {key:value}; got [1]."]),
        ("data.split=0.5", ["data.split must be a list, such as [1,2]; got 0.5."]),
        ("cluster.spark=4", ["cluster.spark must be a mapping, such as {key:value}; got 4."]),
        ("~train.epochs", ["train.epochs cannot be removed."]),
        ("data.path=${nothing}", ["data.path refers to another setting", "'nothing' not found"]),
        ("data.path=range(1,2)", ["Add -m for several trials, or write \"data.path='range(1,2)'\"."]),
        ("hydra.sweeper.n_jobs=4", ["Unknown setting hydra.sweeper.n_jobs. Did you mean sweep.parallel?"]),
        ("hydra/sweeper=basik", ["Expected hydra/sweeper to be one of ask_tell, basic"]),
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
        ("data.source=web", ["Expected data.source to be one of dataframe, digits, fashion_mnist"]),
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
    [
        *("/pics/Citroën", "a#1", "a,b", "it's", "C:\\pics\\new", "a b(1)", "local[2]", "x=$HOME", 'say "hi"', "`ls`"),
        *(
            "[2020]",
            "{x}",
            "[",
            "{a:1}",
            "[x]y",
            "'x'y",
            'it\'s \\ "x" $y',
            "a\\'b",
            "(ü)\\",
            "range(1,2)",
            "a=b!",
            "車",
        ),
    ],
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
    assert f"Received: data.path={value}." in line or f"got {value}." in line
    advice = re.split(" [Ww]rite ", line)[1].split(" For several trials")[0].removesuffix(".")
    [word] = shlex.split(advice)
    assert compose("config", overrides=[word]).data.path == value


def test_a_line_stays_one_line() -> None:
    assert composition_errors.one_line(UserError("Expected a.\nReceived: b.")) == "Expected a.\\nReceived: b."


def test_a_sweeper_that_is_not_installed_names_its_extra() -> None:
    error = MissingConfigException("no such file", "hydra/sweeper/optuna", ["basic"])
    assert "pip install 'distributed-cls[sweep]'" in composition_errors.one_line(error)


@pytest.mark.parametrize("key", ["data.path", "data.name", "model_dir", "model.weights"])
@pytest.mark.parametrize("value", ["1e3", "1_0", "true", "007", "-1.50", "nan", "2024", "a1"])
@pytest.mark.usefixtures("hydra")
def test_a_text_that_looks_like_a_number_stays_as_it_is_written(key: str, value: str) -> None:
    arguments = text_values.kept_as_written(["model=resnet", f"{key}={value}", "train.learning_rate=1e-3", "-m"])
    assert arguments[::2] == ["model=resnet", "train.learning_rate=1e-3"] and arguments[-1] == "-m"
    assert OmegaConf.select(compose("config", overrides=arguments[:3]), key) == value


def test_null_and_several_values_of_a_text_are_left_alone() -> None:
    arguments = ["data.path=null", "data.path=1e3,2e3", "data.path=[", "data.path=${output}", "train.epochs=1_0"]
    assert text_values.kept_as_written(arguments) == arguments
