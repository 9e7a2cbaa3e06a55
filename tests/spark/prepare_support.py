"""A small Spark, and image folders made from fixed seeds, for the tests of preparation."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pyarrow import csv
from pyspark.sql import SparkSession

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest, tfrecord
from distributed_cls.spark import class_archive
from distributed_cls.spark.environment import spark_home
from distributed_cls.spark.java import java_home
from distributed_cls.spark.properties import LOCAL_JAVA

CLASSES = ("bird", "cat", "dög 狗")

# Spark's classes, where make setup has made their archive: its start takes half the time.
_FOUND = class_archive.find(Path(java_home()), spark_home())
_ARCHIVE = f"-XX:SharedArchiveFile={_FOUND}" if _FOUND else ""


@contextlib.contextmanager
def small_spark(cores: int = 2, environment: dict[str, str] | None = None) -> Iterator[SparkSession]:
    """A local session that leaves nothing behind. ``environment``: of the Python workers.

    (All sessions of a process share one Java process, so the workers do not see later changes of os.environ.)
    """
    os.environ.update(PYSPARK_PYTHON=sys.executable, OMP_NUM_THREADS="1", SPARK_LOCAL_IP="127.0.0.1")
    builder = SparkSession.builder.master(f"local[{cores}]").appName("tests")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.driver.extraJavaOptions": f"{LOCAL_JAVA} {_ARCHIVE}",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        **{f"spark.executorEnv.{name}": value for name, value in (environment or {}).items()},
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def picture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """A picture like no other: soft coloured noise, uint8 [H, W, 3]."""
    noise = np.random.default_rng(seed).normal(128, 90, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5) * 2.5 - 190, 0, 255).astype(np.uint8)


def encoded(image: np.ndarray, extension: str = ".png", quality: int = 95) -> bytes:
    """The image as a file's bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == ".jpg" else []
    return cv2.imencode(extension, image, options)[1].tobytes()


def image_folder(folder: Path, per_class: int = 20, classes: tuple[str, ...] = CLASSES, first: int = 0) -> Path:
    """A folder of class folders; half PNG, half JPEG."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for image in range(first, first + per_class):
            extension = (".png", ".jpg")[image % 2]
            (folder / name / f"{image:04d}{extension}").write_bytes(encoded(picture(1000 * number + image), extension))
    return folder


def folder_config(path: Path | str, **settings: Any) -> DataConfig:
    """The configuration of data=folder for small images."""
    return DataConfig(**{"name": "t", "source": "folder", "path": str(path), "image_size": 16, **settings})


def records(path: str) -> dict[bytes, tuple[str, int, bytes]]:
    """Every record of a dataset by its key: (split, label, image), read from the shards themselves."""
    found: dict[bytes, tuple[str, int, bytes]] = {}
    for split, shards in manifest.load(path).shards.items():
        for shard in shards:
            with Path(path, shard.file).open("rb") as stream:
                for record in tfrecord.read_frames(stream):
                    example: dict[str, Any] = tfrecord.parse_example(record)
                    assert example["key"] not in found, "a record occurs twice"
                    found[example["key"]] = (split, example["label"], example["image"])
    return found


def splits(path: str) -> dict[str, str]:
    """The split of every kept image, by its path."""
    table = index.read(f"{path}/{index.FILE}")
    rows = zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True)
    return {name: manifest.SPLITS[split] for name, split in rows if split >= 0}


def rejects(path: str) -> dict[str, str]:
    """The reason of every reject, by its path."""
    table = index.read(f"{path}/rejects.parquet")
    return dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True))


def contents(path: str) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def write_table(file: Path, /, **columns: list[Any]) -> str:
    """A CSV or Parquet file."""
    table = pa.table(columns)
    if file.suffix == ".csv":
        csv.write_csv(table, file)
    else:
        index.write(str(file), table)
    return str(file)
