"""Preparations without a Spark start, for cases of what people have on their disks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset import prepare
from distributed_cls.spark import stage

from ..dataset.support import encoded, photo
from ..dataset.test_preparation import Here, configured

Prepared = Callable[..., Dataset]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prepared:
    """``prepared(data.path, setting=value, …)``: the data set, in a folder of its own."""
    here = Here()
    monkeypatch.setattr(stage, "run", here.run)

    def run(path: Path | str, root: str = "", **settings: Any) -> Dataset:
        config = configured(path, **{"max_reject_fraction": 0.5, **settings})
        return prepare.prepare(here.get, config, root or str(tmp_path / "prepared"))

    return run


def picture(seed: int) -> bytes:
    """A PNG like no other."""
    return encoded(photo(16, 16, seed), "PNG")


def pictures(count: int = 12) -> list[bytes]:
    """As many PNGs, no two alike."""
    return [picture(seed) for seed in range(count)]


def kept_by_class(dataset: Dataset) -> dict[str, int]:
    """How many images of each class are in the data set."""
    counts = index.kept(index.of_dataset(dataset.path))["label"].value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counts, key=lambda row: str(row["values"]))}


def rejects(dataset: Dataset) -> dict[str, str]:
    """The reason of each reject, by its path."""
    return {reject["path"]: reject["reason"] for reject in dataset.manifest.rejects}
