"""Confident learning against loops that follow the paper, on flipped labels, and what a person gets to see of it."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset.sources.table import list_table
from distributed_cls.evaluation import predictions, suspects_page
from distributed_cls.evaluation.confident_learning import Suspects, find_suspects
from tests.shards import encode, records, write_dataset


def by_the_paper(probabilities: np.ndarray, labels: np.ndarray) -> list[bool]:
    """Northcutt et al. (2021), section 3.1, one image after the other."""
    classes = range(probabilities.shape[1])
    thresholds = [probabilities[labels == one, one].mean() if (labels == one).any() else np.inf for one in classes]
    suspected = []
    for row, label in zip(probabilities, labels, strict=True):
        reached = [one for one in classes if row[one] >= thresholds[one]]
        suspected.append(bool(reached) and max(reached, key=lambda one: row[one]) != label)
    return suspected


@pytest.mark.parametrize("seed", range(5))
def test_suspects_are_those_of_the_paper(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, labels = random.dirichlet([0.5] * 6, 300), random.integers(0, 5, 300)  # no image of the last class
    found = find_suspects(probabilities, labels)
    assert found.suspected.tolist() == by_the_paper(probabilities, labels)
    for row, label, suggested, margin in zip(probabilities, labels, found.suggested, found.margin, strict=True):
        best = max((one for one in range(6) if one != label), key=lambda one: row[one])
        assert suggested == best and margin == pytest.approx(row[label] - row[best])
    order = found.order
    assert sorted(order) == list(range(300))
    assert (np.diff(found.margin[order]) >= 0).all()


def test_flipped_labels_come_first() -> None:
    data, random = load_digits(), np.random.default_rng(0)
    labels, images = data.target.copy(), len(data.target)
    flipped = random.choice(images, round(0.03 * images), replace=False)
    labels[flipped] = (labels[flipped] + random.integers(1, 10, len(flipped))) % 10
    model = KNeighborsClassifier(10, weights="distance")
    probabilities = cross_val_predict(model, data.data / 16, labels, cv=4, method="predict_proba")
    order = find_suspects(probabilities, labels).order
    top = np.isin(order, flipped)
    assert top[: images // 100].mean() >= 0.84
    assert top[: images // 20].sum() / len(flipped) >= 0.8


@pytest.fixture(params=["png", "jpeg", "raw"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """Twelve train and six other images, whose original files are in the folder ``files``."""
    split = {"train": [records(8, seed=1), records(4, seed=2)], "val": [records(3, seed=3)], "test": [records(3)]}
    manifest = write_dataset(tmp_path / "data", split, encoding=request.param)
    facts = []
    for number, (name, parts) in enumerate(split.items()):
        for shard, part in zip(manifest.shards[name], parts, strict=True):
            content = (tmp_path / "data" / shard.file).read_bytes()
            for image, label, key in part:
                data, path = encode(image, request.param), f"{shard.file}-{key.hex()}.png"
                place = {"file": shard.file, "offset": content.index(data), "length": len(data)}
                fact = {"path": path, "row": -1, "label": manifest.classes[label], "size": 1, "stamp": 1}
                facts.append({**fact, "split": number, "key": key.ljust(16, b"0"), **place})
    index.write(str(tmp_path / "data" / index.FILE), pa.Table.from_pylist(facts, index.SCHEMA))
    (tmp_path / "files").mkdir()
    for fact in facts:
        (tmp_path / "files" / str(fact["path"])).write_bytes(b"image")
    object.__setattr__(manifest, "source_root", str(tmp_path / "files"))
    return Dataset(str(tmp_path / "data"), manifest, reused=True)


def test_the_list_is_read_back_by_data_table_and_the_page_shows_the_pictures(dataset: Dataset, tmp_path: Path) -> None:
    stored = predictions.stored_images(dataset)
    train = predictions.of_split(stored, "train")
    margin = np.linspace(1, -1, 12)
    found = Suspects((np.arange(12) + 1) % 3, margin, margin < -0.5)
    suspects_page.write(tmp_path, dataset, stored, found, pictures=5)

    written = pa.csv.read_csv(io.BytesIO((tmp_path / "suspects.csv").read_bytes()))
    assert written["path"].to_pylist()[:12] == train["path"].to_pylist()[::-1]
    assert written["suspected"].to_pylist() == [True] * 3 + [False] * 9 + [None] * 6
    config = DataConfig(source="table", path=str(tmp_path / "suspects.csv"))
    listing = list_table(config, str(tmp_path / "suspects.csv")).table
    assert sorted(listing["split"].to_pylist()) == [0] * 12 + [1] * 3 + [2] * 3
    assert sorted(listing["label"].to_pylist()) == sorted(stored["truth"].to_pylist())
    assert min(listing["size"].to_pylist()) == 5  # every file was found

    page = (tmp_path / "suspects.html").read_text()
    assert page.count("<figure>") == page.count("data:image/png;base64,") == 5
    assert "3 labels of 12 training images (25.0%)" in page and "margin -1<" in page
