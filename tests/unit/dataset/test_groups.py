"""Images that belong together share a split: by a column, by their paths, and with near duplicates."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset import groups, prepare, split
from distributed_cls.errors import UserError

from .conftest import Here
from .support import encoded, photo
from .test_preparation import configured

CARS = 30


def views(root: Path, cars: int = CARS, sides: int = 4) -> Path:
    """Cars of two makers, each seen from several sides: ``maker/car7_side2.png``. All pictures differ."""
    for number, car in itertools.product(range(2), range(cars)):
        folder = root / ("audi", "bmw")[number]
        folder.mkdir(parents=True, exist_ok=True)
        for side in range(sides):
            image = photo(16, 16, 10_000 * number + 10 * car + side)
            (folder / f"car{car}_side{side}.png").write_bytes(encoded(image, "PNG"))
    return root


def prepared(here: Here, path: Path | str, root: Path, **settings: Any) -> Dataset:
    config = configured(path, **{"max_reject_fraction": 0.3, **settings})
    return prepare.prepare(here.get, config, str(root))


def splits_by_path(dataset: Dataset) -> dict[str, int]:
    kept = index.kept(index.of_dataset(dataset.path))
    return dict(zip(kept["path"].to_pylist(), kept["split"].to_pylist(), strict=True))


def splits_of(dataset: Dataset, key: Any) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for path, number in splits_by_path(dataset).items():
        found.setdefault(key(path), set()).add(number)
    return found


def shares(dataset: Dataset) -> np.ndarray:
    """Fraction of each class in train, val and test, [classes, 3]."""
    counts = np.array([list(dataset.manifest.counts[name].values()) for name in ("train", "val", "test")]).T
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        (r"(\w+/car\d+)_", lambda path: path.partition("_")[0]),
        (r"car\d+", lambda path: path.partition("_")[0].partition("/")[2]),  # all that it matches: over both makers
    ],
)
def test_what_a_pattern_calls_equal_shares_a_split(here: Here, tmp_path: Path, pattern: str, key: Any) -> None:
    dataset = prepared(here, views(tmp_path / "in"), tmp_path / "out", group_pattern=pattern)
    found = splits_of(dataset, key)
    assert {len(numbers) for numbers in found.values()} == {1}
    assert np.abs(shares(dataset) - [0.7, 0.15, 0.15]).max() <= 4 / (4 * CARS), "to within one group"
    alone = prepared(here, tmp_path / "in", tmp_path / "out")
    assert {len(numbers) for numbers in splits_of(alone, key).values()} != {1}
    assert alone.path != dataset.path


def table_of(folder: Path, kind: str, group: Any, **columns: list[Any]) -> str:
    """A table of the pictures below ``folder`` with the group that ``group`` gives to each path."""
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    found: dict[str, list[Any]] = {
        "label": [path.partition("/")[0] for path in paths],
        "car": [group(path) for path in paths],
        **columns,
    }
    if kind == "parquet":
        found["image"] = [(folder / path).read_bytes() for path in paths]
        pq.write_table(pa.table(found), folder.parent / "cars.parquet")
        return str(folder.parent / "cars.parquet")
    with (folder / "cars.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", *found])
        writer.writerows(zip(paths, *found.values(), strict=True))
    return str(folder / "cars.csv")


@pytest.mark.parametrize("source", ["table", "parquet"])
def test_what_a_column_calls_equal_shares_a_split(here: Here, tmp_path: Path, source: str) -> None:
    views(tmp_path / "in")
    path = table_of(tmp_path / "in", source, lambda name: int(name.partition("_")[0].rpartition("car")[2]))
    dataset = prepared(here, path, tmp_path / "out", source=source, group_column="car")
    kept = index.kept(index.of_dataset(dataset.path))
    found = set(zip(kept["group"].to_pylist(), kept["split"].to_pylist(), strict=True))
    assert len(found) == CARS and {name for name, _ in found} == {str(number) for number in range(CARS)}


def test_rows_without_a_group_are_alone_and_named(
    here: Here,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    views(tmp_path / "in", cars=10)
    path = table_of(tmp_path / "in", "table", lambda name: " " if "car3_" in name else name.partition("_")[0])
    dataset = prepared(here, path, tmp_path / "out", source="table", group_column="car")
    assert "Images that data.group_column puts in no group: 8, for example audi/car3_side0.png" in caplog.text
    groups_found = index.of_dataset(dataset.path)["group"]
    assert groups_found.null_count == 8


def test_near_duplicates_join_groups(here: Here, tmp_path: Path) -> None:
    """A brighter copy of a picture of car 1 is among car 2's, and the very same picture among those of cars 3 and 4."""
    folder = views(tmp_path / "in", cars=12, sides=2)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.write_bytes(encoded(photo(64, 64, number), "PNG"))
    one = np.asarray(Image.open(folder / "audi" / "car1_side0.png")).astype(int)
    bright = np.clip(one + 6, 0, 255).astype(np.uint8)
    (folder / "audi" / "car2_side0.png").write_bytes(encoded(bright, "PNG"))
    (folder / "audi" / "car4_side1.png").write_bytes((folder / "audi" / "car3_side1.png").read_bytes())
    settings = {"group_pattern": r"(\w+/car\d+)_", "near_duplicates": 12, "image_size": 32}
    for salt in ("", "a", "b", "c"):
        dataset = prepared(here, folder, tmp_path / "out", split_salt=salt, **settings)
        found = splits_of(dataset, lambda path: path.partition("_")[0])
        assert {len(numbers) for numbers in found.values()} == {1}
        assert found["audi/car1"] == found["audi/car2"]
        assert found["audi/car3"] == found["audi/car4"], "by the picture that is in both and kept once"
        assert dataset.manifest.duplicates == 1


def test_a_group_that_given_splits_tear_apart_stays_whole_in_the_later_one(
    here: Here,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = views(tmp_path / "in", cars=20, sides=3)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    car = [int(name.partition("_")[0].rpartition("car")[2]) for name in names]
    # Cars 0 to 15 in train, 16 to 19 in test; of car 0 one side is in test as well.
    given = ["test" if n > 15 or (n == 0 and "side2" in name) else "train" for n, name in zip(car, names, strict=True)]
    path = table_of(folder, "table", lambda name: name.partition("_")[0], split=given)
    dataset = prepared(here, path, tmp_path / "out", source="table", group_column="car")
    assert dataset.manifest.rejected_by_reason == {"group_in_another_split": 4}
    assert "left out: 4, for example audi/car0_side0.png belongs together with audi/car0_side2.png" in caplog.text
    found = splits_of(dataset, lambda name: name.partition("_")[0])
    assert {len(numbers) for numbers in found.values()} == {1} and found["audi/car0"] == {2}
    assert sum(dataset.manifest.counts["val"].values()) > 0, "val is taken out of train, by whole cars"


def test_a_group_that_is_larger_than_a_split_is_named(
    here: Here,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = views(tmp_path / "in", cars=12, sides=2)
    path = table_of(folder, "table", lambda name: "fleet" if "audi/car1" in name else name)
    dataset = prepared(here, path, tmp_path / "out", source="table", group_column="car")
    assert "The group fleet has 6 images" not in caplog.text, "48 images: 7 for val and test"
    assert splits_of(dataset, lambda name: name.startswith("audi/car1"))[True] == {0}
    path = table_of(folder, "table", lambda name: "fleet" if "car1" in name else name)
    caplog.clear()
    dataset = prepared(here, path, tmp_path / "out", source="table", group_column="car")
    counts = [sum(counted.values()) for counted in dataset.manifest.counts.values()]
    assert "The group fleet has 12 images, more than data.split gives to val (7): it is whole in train" in caplog.text
    assert f"train {counts[0]}, val {counts[1]}, test {counts[2]}" in caplog.text


def test_later_images_of_a_group_join_it(here: Here, tmp_path: Path) -> None:
    folder = views(tmp_path / "in", sides=2)
    first = prepared(here, folder, tmp_path / "out", group_pattern=r"(\w+/car\d+)_")
    views(tmp_path / "more", sides=4)
    for path in (tmp_path / "more").rglob("*_side3.png"):
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    second = prepared(here, folder, tmp_path / "out", group_pattern=r"(\w+/car\d+)_")
    assert second.manifest.base == first.manifest.fingerprint
    before, after = (splits_of(dataset, lambda path: path.partition("_")[0]) for dataset in (first, second))
    assert before == after


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_pattern": r"plate(\d+)"}, r"data\.group_pattern to match some paths\. .*none of 16 .*audi/car0_side0"),
        ({"group_column": "car"}, r"data\.group_column to name a column of a table .*source=folder"),
        ({"group_pattern": r"(\w+)/"}, r"at least 3 groups, one for each of train, val, test\. .* class audi with 1"),
    ],
)
def test_groups_that_cannot_be_are_one_line(
    here: Here,
    tmp_path: Path,
    settings: dict[str, str],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepared(here, views(tmp_path / "in", cars=4, sides=2), tmp_path / "out", **settings)
    assert "\n" not in str(caught.value) and here.decoded == 0


def test_a_column_that_is_missing_or_holds_no_text_is_one_line(here: Here, tmp_path: Path) -> None:
    views(tmp_path / "in", cars=4, sides=2)
    path = table_of(tmp_path / "in", "parquet", lambda name: [name])
    for column, message in (
        ("garment", r"Expected the column garment\. .*'label', 'car'.* or data\.group_column"),
        ("car", r"text or numbers in the column car\. Received: list"),
    ):
        with pytest.raises(UserError, match=message):
            prepared(here, path, tmp_path / "out", source="parquet", group_column=column)


def test_settings_that_are_no_groups_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.group_pattern to be a regular expression \(.*unterminated"):
        DataConfig(group_pattern="car(")
    with pytest.raises(UserError, match=r"null while data\.group_column is set"):
        DataConfig(group_pattern="car", group_column="car")


@pytest.mark.parametrize("seed", range(6))
def test_classes_stay_balanced_to_within_the_largest_group(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 12, 60)
    members = np.repeat(np.arange(60), sizes)
    labels = np.repeat(random.integers(0, 4, 60), sizes)
    order = random.permutation(len(members)).astype(np.uint64)
    fractions = [0.7, 0.15, 0.15]
    found = split.assign(labels, members, order, fractions)
    for label in range(4):
        counts = np.bincount(found[labels == label], minlength=3)
        assert np.abs(counts - counts.sum() * np.array(fractions)).max() <= sizes.max()
    assert all(len(set(found[members == number])) == 1 for number in range(60))


@pytest.mark.parametrize("sizes", [[10, 10, 10], [30, 1, 1], [9, 9, 9, 9], [50, 40, 2]])
def test_every_split_gets_a_group_of_a_class_that_has_three(sizes: list[int]) -> None:
    members = np.repeat(np.arange(len(sizes)), sizes)
    found = split.assign(
        np.zeros(len(members), int), members, np.arange(len(members), dtype=np.uint64), [0.7, 0.15, 0.15]
    )
    assert set(found.tolist()) == {0, 1, 2}
    assert len(set(found[members == 0])) == 1 and found[0] == 0, "the largest is in train"


def test_names_and_near_duplicates_are_joined_as_one_graph() -> None:
    """Against the connected components of a graph that is searched step by step."""
    random = np.random.default_rng(1)
    near, names = random.integers(0, 60, 100), random.integers(0, 90, 100)
    facts = {"reason": pa.nulls(100, pa.string()), "key": [bytes([n]) * 16 for n in range(100)]}
    table = pa.table({**facts, "group": [f"g{n}" if n < 70 else None for n in names.tolist()]})
    table = table.set_column(1, "key", table["key"].cast(pa.binary(16)))
    found = groups.joined(table, near)
    for start in range(100):
        reached, waiting = {start}, [start]
        while waiting:
            one = waiting.pop()
            linked = (near == near[one]) | ((names == names[one]) & (names[one] < 70))
            new = set(np.flatnonzero(linked).tolist()) - reached
            reached |= new
            waiting += new
        assert set(np.flatnonzero(found == found[start]).tolist()) == reached
