"""Shared by the sources that need no path: their images are kept once as a Parquet table below dataset_root."""

import dataclasses
import io
import os
from collections.abc import Callable, Iterable

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing
from distributed_cls.dataset.sources.parquet import list_parquet

FOLDER = ".sources"
_MTIME = 1_000_000_000  # one time for all: a second copy elsewhere is the same data set
_ROWS_PER_GROUP = 4096  # a decoding task reads whole groups


def png(image: np.ndarray) -> bytes:
    """A uint8 grey image [H, W] as PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def list_table_of(name: str, config: DataConfig, dataset_root: str, make: Callable[[], pa.Table]) -> Listing:
    """The images of ``<dataset_root>/.sources/<name>.parquet``, which ``make`` gives when it is not there yet."""
    path = storage.join(dataset_root, FOLDER, f"{name}.parquet")
    if not storage.exists(path):
        storage.check_writable(dataset_root, "dataset_root")
        stream = io.BytesIO()
        pq.write_table(make(), stream, row_group_size=_ROWS_PER_GROUP)
        storage.make_folder(storage.join(dataset_root, FOLDER))
        with storage.replacing(path) as temporary:
            temporary.write_bytes(stream.getvalue())
            os.utime(temporary, (_MTIME, _MTIME))
    ours = dataclasses.replace(config, bytes_column="image", label_column="label", split_column="split")
    return list_parquet(ours, path)


def images_table(images: Iterable[np.ndarray], labels: Iterable[str], splits: Iterable[str] | None = None) -> pa.Table:
    """Grey images, their classes, and their splits where they are given, as the table that is kept."""
    columns: dict[str, pa.Array] = {
        "image": pa.array([png(image) for image in images], pa.binary()),
        "label": pa.array(list(labels), pa.string()),
    }
    if splits is not None:
        columns["split"] = pa.array(list(splits), pa.string())
    return pa.table(columns)
