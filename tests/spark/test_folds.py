"""The folds of a data set hold each of its train images once, and nothing of a fold is trained on by its own model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from distributed_cls.contracts import manifest, tfrecord
from distributed_cls.contracts.manifest import SPLITS, Dataset
from distributed_cls.dataset import folds
from distributed_cls.errors import UserError
from tests.shards import records, write_dataset
from tests.spark.prepare_support import small_spark

FOLDS = 3


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with small_spark() as session:
        yield session


def keys_of(dataset: Dataset, split: str) -> list[bytes]:
    found = []
    for shard in dataset.manifest.shards[split]:
        with Path(dataset.path, shard.file).open("rb") as stream:
            found += [tfrecord.parse_example(data)["key"] for data in tfrecord.read_frames(stream)]
    return found  # type: ignore[return-value]


def test_every_train_image_is_in_one_fold(spark: SparkSession, tmp_path: Path) -> None:
    parts = {"train": [records(20)[:11], records(20)[11:]], "val": [records(5)], "test": [records(4)]}
    whole = Dataset(str(tmp_path / "data"), write_dataset(tmp_path / "data", parts), reused=True)
    made = folds.write_folds(spark, whole, tmp_path / "folds", FOLDS)
    every = keys_of(whole, "train")
    rows = folds.rows_of_folds(pa.chunked_array([every]), FOLDS)
    assert sorted(np.concatenate(rows)) == list(range(20))
    for fold, (dataset, own) in enumerate(zip(made, rows, strict=True)):
        content = manifest.load(dataset.path)  # which checks the size of every shard
        assert content == dataset.manifest and content.fingerprint == f"{whole.manifest.fingerprint}.{fold}of3"
        for split in SPLITS:
            for shard in content.shards[split]:
                manifest.check_shard(dataset.path, shard)
            assert content.records(split) == sum(content.counts[split].values())
        assert keys_of(dataset, "test") == [every[row] for row in own]
        assert sorted(keys_of(dataset, "train")) == sorted(set(every) - {every[row] for row in own})
        assert keys_of(dataset, "val") == keys_of(whole, "val")

    with pytest.raises(UserError, match=r"suspects.folds=50 folds\. Received: none in fold 20, of 20 train images"):
        folds.write_folds(spark, whole, tmp_path / "more", 50)
