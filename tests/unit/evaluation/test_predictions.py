"""What the ranks leave of an evaluation, joined with the index of the dataset, gives each image its own row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.contracts import index, rank_predictions
from distributed_cls.contracts.events import Mistake
from distributed_cls.contracts.manifest import Dataset, Manifest, Shard
from distributed_cls.contracts.rank_predictions import RankPredictions
from distributed_cls.errors import RunError
from distributed_cls.evaluation import predictions

CLASSES = ["cat", "dog", "emu"]
SHARDS = {"train": [3], "val": [2], "test": [3, 0, 4]}


def _dataset(folder: Path, rows: bool = False) -> Dataset:
    """Seven test images in two shards, in an order that is not that of their names; one reject and one duplicate."""
    folder.mkdir()
    files = {split: [f"{split}-{n}.tfrecord" for n in range(len(counts))] for split, counts in SHARDS.items()}
    placed = [
        (split, file, offset)
        for split, counts in SHARDS.items()
        for file, count in zip(files[split], counts, strict=True)
        for offset in range(count)
    ]
    random = np.random.default_rng(0)
    names = random.permutation(len(placed)).tolist()
    table = [
        {
            "path": f"{CLASSES[name % 3]}/{name:02}.png" if not rows else "images.parquet",
            "row": name if rows else -1,
            "label": CLASSES[name % 3],
            "key": bytes([name] * 16),
            "file": file,
            "offset": 100 * offset,
            "length": 90,
        }
        for name, (_, file, offset) in zip(names, placed, strict=True)
    ]
    left_out = [{"path": "cat/bad.png", "row": -1, "label": "cat", "reason": "empty"}]
    copy = {**table[-1], "path": "emu/copy.png", "reason": "duplicate"}
    full = [dict.fromkeys(index.SCHEMA.names) | row for row in [*table, *left_out, copy]]
    index.write(str(folder / index.FILE), pa.Table.from_pylist(full, index.SCHEMA).sort_by("path"))
    shards = {
        split: [Shard(file, count, 0, 0) for file, count in zip(files[split], counts, strict=True)]
        for split, counts in SHARDS.items()
    }
    content = Manifest(
        "birds", "f", CLASSES, 8, "png", "stretch", 0, "", {}, {}, shards, source="folder", source_root="/photos"
    )
    return Dataset(str(folder), content, reused=False)


def _rank_file(run: Path, split: str, rank: int, ranges: list[tuple[int, int, int]], first: list[int]) -> None:
    """What a rank of three leaves when its most probable classes are ``first``."""
    classes = np.array([[number, (number + 1) % 3] for number in first], np.int64).reshape(-1, 2)
    probabilities = np.tile(np.float32([0.75, 0.125]), (len(first), 1))
    read = np.array(ranges, np.int64).reshape(-1, 3)
    rank_predictions.write(run, RankPredictions(split, rank, 3, "f", read, classes, probabilities))


@pytest.mark.parametrize("rows", [False, True])
def test_ranges_of_shards_become_rows_with_their_paths(tmp_path: Path, rows: bool) -> None:
    dataset, run = _dataset(tmp_path / "ds", rows), tmp_path
    table = index.read(str(tmp_path / "ds" / index.FILE)).to_pylist()
    held = {(row["file"], row["offset"] // 100): row for row in table if row["reason"] is None}
    # Rank 0 reads all of one shard and a part of another one, rank 1 the rest; a third has nothing.
    parts = [[(0, 0, 3), (2, 0, 1)], [(2, 1, 4)], []]
    truth: dict[str, tuple[str, str]] = {}
    for rank, ranges in enumerate(parts):
        images = [held[f"test-{shard}.tfrecord", at] for shard, start, stop in ranges for at in range(start, stop)]
        guesses = [(CLASSES.index(image["label"]) + rank) % 3 for image in images]
        _rank_file(run, "test", rank, ranges, guesses)
        for image, guess in zip(images, guesses, strict=True):
            name = f"/photos/{image['path']}" + (f"#{image['row']}" if rows else "")
            truth[name] = (image["label"], CLASSES[guess])
    # Files of an earlier evaluation by other ranks do not count.
    leftover = RankPredictions(
        "test", 1, 2, "f", np.array([[0, 0, 1]]), np.array([[0, 1]]), np.ones((1, 2), np.float32)
    )
    rank_predictions.write(run, leftover)
    predictions.write(run, dataset, predictions.stored_images(dataset), ["test"], 3)
    found = pq.read_table(run / predictions.FILE).to_pylist()
    assert {row["path"]: (row["truth"], row["label"]) for row in found} == truth
    assert len(found) == 7 and {row["split"] for row in found} == {"test"}
    for row in found:
        second = CLASSES[(CLASSES.index(row["label"]) + 1) % 3]
        assert row["top"] == [
            {"label": row["label"], "confidence": 0.75},
            {"label": second, "confidence": 0.125},
        ]
        assert row["confidence"] == 0.75
    assert not (run / rank_predictions.FOLDER).exists()


def test_predictions_that_do_not_fit_the_dataset_are_no_table(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "ds")
    stored = predictions.stored_images(dataset)
    for rank in (1, 2):
        _rank_file(tmp_path, "val", rank, [], [])
    _rank_file(tmp_path, "val", 0, [(0, 0, 2)], [0, 1, 2])
    with pytest.raises(AssertionError, match="val: 3 predictions for 2 images"):
        predictions.write(tmp_path, dataset, stored, ["val"], 3)
    _rank_file(tmp_path, "val", 0, [(0, 0, 1)], [0])
    whole = sum(SHARDS["val"])
    with pytest.raises(RunError, match=f"Expected predictions for {whole} val images. Received: 1"):
        predictions.write(tmp_path, dataset, stored, ["val"], 3)
    assert not (tmp_path / predictions.FILE).exists()


def test_keys_lead_to_paths(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "ds")
    stored = predictions.stored_images(dataset)
    table = index.read(str(tmp_path / "ds" / index.FILE)).to_pylist()
    kept = [row for row in table if row["reason"] is None][::-2]
    mistakes = [Mistake("", row["key"].hex(), 0, 1, 0.5) for row in kept]
    found = predictions.with_paths(stored, mistakes)
    assert [mistake.path for mistake in found] == [f"/photos/{row['path']}" for row in kept]
    assert predictions.with_paths(stored, []) == []
