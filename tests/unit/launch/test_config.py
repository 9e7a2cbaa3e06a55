"""Settings: every YAML file of conf/ composes, every value is checked, and a configuration survives its travels."""

import dataclasses
import json
from datetime import date
from pathlib import Path

import pytest
import yaml

from distributed_cls.config import Config, DataConfig, TrainConfig, from_dict, to_dict
from distributed_cls.config.registry import models
from distributed_cls.errors import UserError
from launch import schema
from launch.composition import CONF, compose

from .conftest import Composed

GROUPS = ("data", "model", "train", "cluster", "job", "experiment")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted(Path(CONF, group).glob("*.yaml"))]
# What a choice cannot know: the user's paths and addresses.
_GIVEN = {
    "folder": ["data.path=/images"],
    "split_folder": ["data.path=/images"],
    "table": ["data.path=/images.csv"],
    "parquet": ["data.path=/images.parquet"],
    "cars": ["data.path=/cars"],
    "standalone": ["cluster.master=spark://node:7077"],
    "kubernetes": ["cluster.master=k8s://https://node:6443"],
    "resnet": ["data.image_size=32"],
    "backbone": ["data.image_size=32"],
    "evaluate": ["model_dir=/run"],
    "serve": ["model_dir=/run"],
    "predict": ["model_dir=/run", "data.path=/images", "output=/out"],
    "stream": ["model_dir=/run", "data.path=/images", "output=/out"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_conf_composes_and_survives_its_travels(composed: Composed, group: str, choice: str) -> None:
    config = composed(f"{group}={choice}", *_GIVEN.get(choice, []))
    assert type(config.model) is models()[config.model.name]
    if group in ("model", "cluster", "job"):
        assert getattr(config, group).name == choice
    content = yaml.safe_load(Path(CONF, group, f"{choice}.yaml").read_text(encoding="utf-8")) or {}
    given = [override.partition("=")[0] for override in _GIVEN.get(choice, [])]
    for name, value in content.items():  # what the file says is what the framework gets
        if group in ("data", "train", "cluster") and f"{group}.{name}" not in given and not isinstance(value, dict):
            found = getattr(getattr(config, group), name)
            assert found == (float(value) if isinstance(found, float) else value), name
    travelled = from_dict(json.loads(json.dumps(to_dict(config))))
    assert to_dict(travelled) == to_dict(config)
    assert from_dict(to_dict(travelled)) == travelled


def test_the_defaults_of_conf_are_those_of_the_issue(composed: Composed) -> None:
    config = composed()
    assert (config.data.source, config.model.name, config.cluster.name) == ("digits", "cnn", "local")
    assert (config.job.name, config.cluster.workers) == ("pipeline", 2)
    assert config.data.split == [0.7, 0.15, 0.15]


def test_values_from_the_command_line_keep_their_types(composed: Composed) -> None:
    config = composed("train.learning_rate=1e-2", "data.split=[0.5,0.25,0.25]", "train.patience=3", "model.filters=[8]")
    assert config.train.learning_rate == 0.01
    assert config.data.split == [0.5, 0.25, 0.25]
    assert config.train.patience == 3
    assert config.model.filters == [8]
    assert composed("train=finetune", "train.patience=null").train.patience is None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.split=[0.5,0.5]"], "data.split to be three fractions above 0"),
        (["data.split=[0.8,0.3,-0.1]"], "data.split to be three fractions above 0"),
        (["data.split=[0.5,0.2,0.2]"], "sum to 1"),
        (["data.name=a/b"], "data.name to be letters"),
        (["data=folder"], "data.path to be a folder with one sub-folder of images per class"),
        (["data.source=web"], "data.source to be one of dataframe, digits, fashion_mnist"),
        (["train.batch_size=1"], "at least cluster.workers=2"),
        (["train.batch_size=67"], "at least 2 lanes (train.lanes), one for each replica, and has 1"),
        (["cluster.workers=2", "cluster.gpus_per_worker=3", "train.batch_size=202"], "Set train.batch_size=198."),
        (["cluster.workers=80", "train.batch_size=160"], "Set train.batch_size=160 train.lanes=80."),
        (["train.lanes=1"], "at least 2 lanes"),
        (["train.lanes=12"], "train.lanes to be a divisor of train.batch_size=128"),
        (["train.epochs=0"], "train.epochs to be a value >= 1"),
        (["train.learning_rate=0"], "train.learning_rate to be a value > 0"),
        (["train.learning_rate=nan"], "train.learning_rate to be a value > 0"),
        (["model.dropout=1"], "model.dropout to be a value < 1"),
        (["model=resnet", "data.image_size=16"], "data.image_size to be at least 32"),
        (["model=resnet", "data.image_size=32", "model.freeze_backbone=true"], "model.freeze_backbone to be false"),
        (["model=dense", "model.units=[0]"], "model.units to be values >= 1"),
        (["model.filters=[32,-1]"], "model.filters to be values >= 1"),
        (["train.seed=4294967296"], "train.seed to be a value <= 4294967295"),
        (["+train.epochs_of_other=1"], "a setting of --help. Received: +train.epochs_of_other."),
        (["+epochs=1"], "a setting of --help. Received: +epochs."),
        (["job=evaluate"], "model_dir to be the run folder of a trained model"),
        (["job=predict", "model_dir=/run", "data.path=/images"], "output to be the folder of the results"),
        (["cluster.workers=0"], "cluster.workers to be a value >= 1"),
        (["sweep.parallel=0"], "sweep.parallel to be auto or a whole number >= 1"),
        (["sweep.parallel=all"], "sweep.parallel to be auto or a whole number >= 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_was_expected(
    composed: Composed, overrides: list[str], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        composed(*overrides)
    message = str(raised.value)
    assert message.startswith("Expected ") and expected in message and "Received: " in message
    assert "\n" not in message


def test_the_checks_hold_without_hydra_as_well() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size"):
        Config(train=TrainConfig(batch_size=67))
    values = to_dict(Config())
    values["data"]["jpeg_quality"] = 101
    with pytest.raises(UserError, match=r"data\.jpeg_quality to be a value <= 100"):
        from_dict(values)


def test_every_setting_has_a_meaning_and_a_default_within_its_own_limits() -> None:
    sections = [item.type for item in dataclasses.fields(Config) if dataclasses.is_dataclass(item.type)]
    for kind in (*sections, *models().values()):
        kind()
        for item in dataclasses.fields(kind):
            assert len(item.metadata["doc"]) > 5, (kind, item.name)
            assert item.name == "name" or "\n" not in item.metadata["doc"]
    assert DataConfig().split is not DataConfig().split


def test_a_cluster_without_a_master_takes_the_submitted_one(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"Expected cluster\.master to be a Spark master"):
        composed("cluster=standalone")
    assert composed("cluster=standalone", "+cluster.spark={spark.master:yarn}").cluster.name == "standalone"
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")  # as spark-submit does
    assert composed("cluster=standalone").cluster.master == ""


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "digits-cnn"),
        (["model=dense", "data.name=cars"], "cars-dense"),
        (["job=train", "model=dense"], "train-digits-dense"),
        (["job=prepare"], "prepare-digits"),
        (["job=verify"], "verify-digits"),
        (["job=predict", "model_dir=runs/cars", "data.path=/images", "output=/out"], "predict-cars"),
        (["job=evaluate", "model_dir=runs/2026-01-01/cars/"], "evaluate-cars"),
        (["job=serve", "model_dir=s3://bucket/cars"], "serve-cars"),
        (["job=doctor"], "doctor"),
    ],
)
def test_a_run_folder_is_named_after_the_job_and_what_it_uses(overrides: list[str], name: str) -> None:
    schema.register()
    _, folder = compose(overrides)
    day, last = folder.parts[-2:]
    assert folder.parts[:-2] == ("runs",)
    date.fromisoformat(day)
    began, _, called = last.partition(f"-{name}")
    assert (began.count("-"), called) == (3, ""), f"the time, its microseconds, and then the name: {last}"
