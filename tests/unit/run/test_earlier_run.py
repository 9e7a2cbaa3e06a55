"""Evaluating an earlier run: its settings, its images, and none that it was trained on."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distributed_cls.config import Config, DataConfig, EvaluateConfig, to_dict
from distributed_cls.contracts import checkpoint, index
from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.errors import UserError
from distributed_cls.models.dense import DenseConfig
from distributed_cls.run import earlier_run
from tests.shards import records, write_dataset

TRAINED = Config(
    model=DenseConfig(units=[7]), data=DataConfig(name="cars", source="folder", path="/cars", image_size=16)
)


def _dataset(folder: Path, splits: dict[bytes, int], seed: int = 0) -> Dataset:
    """A data set whose index has one kept image for each key, in the split of that number."""
    parts = {split: [records(6, seed=seed)] for split in ("train", "val", "test")}
    manifest = write_dataset(folder, parts)
    facts = [
        {"path": f"{key.hex()}.png", "row": -1, "label": "a", "size": 1, "stamp": 1, "split": split, "key": key}
        for key, split in splits.items()
    ]
    index.write(str(folder / index.FILE), pa.Table.from_pylist(facts, index.SCHEMA))
    return Dataset(str(folder), manifest, reused=True)


def _run(folder: Path, dataset: Dataset | None) -> Path:
    entry = dataset and DatasetEntry(
        "cars", dataset.manifest.fingerprint, dataset.path, dataset.manifest.classes, dataset.manifest.counts
    )
    (folder / "model").mkdir(parents=True)
    checkpoint.write(folder / "checkpoints" / "best.npz", {"w": np.zeros(1)}, Position())
    summaries.write(folder, Summary("pipeline", {}, to_dict(TRAINED), dataset=entry))
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Dataset:
    keys = {bytes([number]) * 16: split for number, split in enumerate([0, 0, 0, 1, 2])}
    return _dataset(tmp_path / "trained", keys)


def test_confidence_is_that_of_the_exported_model_unless_the_command_line_asks_for_another(
    tmp_path: Path, trained: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    run = _run(tmp_path / "run", trained)
    assert earlier_run.find(str(run)).confidence is None  # job=train exports nothing: it is fitted
    (run / "model" / "model.json").write_text("{}")
    assert earlier_run.find(str(run)).confidence == Confidence()  # a release that fitted none
    fitted = Confidence(1.5, 0.4, 0.95)
    summaries.write(run, dataclasses.replace(summaries.read(run, ""), confidence=fitted))
    found = earlier_run.find(str(run))
    assert earlier_run.confidence_of(found, ["data.path"]) == fitted
    assert not caplog.messages
    assert earlier_run.confidence_of(found, ["evaluate.coverage"]) is None
    assert caplog.messages == ["evaluate.coverage: fitted anew for this evaluation; the exported model stays as it is"]


@pytest.mark.parametrize("given", ["", "model"])
def test_a_run_is_found_by_its_folder_and_by_the_model_in_it(tmp_path: Path, trained: Dataset, given: str) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained) / given))
    assert found.folder == tmp_path / "run" and found.config == TRAINED
    assert found.dataset.fingerprint == trained.manifest.fingerprint


def test_what_is_no_finished_training_is_named(tmp_path: Path, trained: Dataset) -> None:
    with pytest.raises(UserError, match="run folder of a finished training"):
        earlier_run.find(str(tmp_path / "nothing"))
    _run(tmp_path / "prepared", None)
    with pytest.raises(UserError, match=r"Expected a checkpoint at .*best\.npz"):
        earlier_run.find(str(tmp_path / "prepared"))
    (_run(tmp_path / "run", trained) / "checkpoints" / "best.npz").unlink()
    with pytest.raises(UserError, match=r"Expected a checkpoint at .*best\.npz"):
        earlier_run.find(str(tmp_path / "run"))


def test_settings_of_another_release_are_left_out_and_named(
    tmp_path: Path, trained: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _run(tmp_path / "run", trained)
    summary = summaries.read(folder, "")
    values = to_dict(TRAINED)
    values["train"]["steps_of_yore"] = 3
    summaries.write(folder, dataclasses.replace(summary, config=values))
    with caplog.at_level("INFO"):
        assert earlier_run.find(str(folder)).config == TRAINED
    assert "train.steps_of_yore" in caplog.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {"name": "cars", "path": "/cars", "image_size": 16}),
        (["data.split_salt"], {"name": "cars", "path": "/cars", "image_size": 16, "split_salt": "other"}),
        (["data", "data.path"], {"name": "vans", "path": "/vans", "image_size": 16, "split_salt": "other"}),
        (["data", "data.path", "data.image_size"], {"name": "vans", "path": "/vans", "image_size": 64}),
    ],
)
def test_the_runs_own_data_settings_unless_others_are_given(
    tmp_path: Path, trained: Dataset, given: list[str], expected: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained)))
    now = Config(data=DataConfig(name="vans", source="folder", path="/vans", image_size=64, split_salt="other"))
    with caplog.at_level("INFO"):
        config = earlier_run.evaluated_config(now, found, given)
    assert ("but for data." in caplog.text) == bool(given) and "own data settings" in caplog.text
    assert config.model == TRAINED.model
    assert {name: getattr(config.data, name) for name in expected} == expected


def test_images_that_were_trained_on_are_refused(
    tmp_path: Path, trained: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained)))
    earlier_run.check_data(found, trained)
    assert not caplog.text
    others = {bytes([number]) * 16: split for number, split in [(0, 0), (7, 1), (8, 2)]}  # 0 is in train again
    earlier_run.check_data(found, _dataset(tmp_path / "new", others, seed=1))
    assert "was trained on data set" in caplog.text
    mixed = {bytes([number]) * 16: split for number, split in [(1, 1), (2, 2), (8, 2)]}
    with pytest.raises(UserError, match=r"Received: 2 of 3 val and test images of .*, for example 01010101"):
        earlier_run.check_data(found, _dataset(tmp_path / "mixed", mixed, seed=2))


def test_other_data_are_prepared_with_the_models_channels_or_refused(tmp_path: Path, trained: Dataset) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained)))
    grey = dataclasses.replace(found, dataset=dataclasses.replace(found.dataset, channels=1))
    now = Config(data=DataConfig(name="vans", source="folder", path="/vans"))
    assert earlier_run.evaluated_config(now, grey, ["data"]).data.channels == "1"
    assert earlier_run.evaluated_config(now, grey, ["data", "data.channels"]).data.channels == "auto"
    assert earlier_run.evaluated_config(now, grey, []).data.channels == "auto"
    with pytest.raises(UserError, match=r"was trained on: 1\. Received: 3 in .*Set data\.channels=1"):
        earlier_run.check_data(grey, trained)


def test_a_mirrored_model_is_evaluated_as_it_answers(tmp_path: Path, trained: Dataset) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained)))
    mirrored = dataclasses.replace(
        found, config=dataclasses.replace(found.config, evaluate=EvaluateConfig(mirror=True))
    )
    assert earlier_run.evaluated_config(Config(), mirrored, []).evaluate.mirror
    assert not earlier_run.evaluated_config(Config(), mirrored, ["evaluate.mirror"]).evaluate.mirror


def test_other_classes_are_refused(tmp_path: Path, trained: Dataset) -> None:
    found = earlier_run.find(str(_run(tmp_path / "run", trained)))
    manifest = dataclasses.replace(trained.manifest, classes=["audi", "bmw", "vw"])
    with pytest.raises(UserError, match=r"class_0, class_1, class_2\. Received: audi, bmw, vw\."):
        earlier_run.check_data(found, dataclasses.replace(trained, manifest=manifest))
