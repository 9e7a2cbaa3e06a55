"""What one Spark task does: read images ahead, classify them in full batches, give one row per image.

Nothing here is tied to Spark: items come from an iterator, rows leave through one. TensorFlow is imported when the
first batch is classified, once per Python worker.
"""

import dataclasses
import functools
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.contracts.export import Export
from distributed_cls.images import decode
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.predictor.image_input import BadImageError, prepare, spec_for
from distributed_cls.predictor.likeliest import top
from distributed_cls.text import class_name

T = TypeVar("T")

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("top", pa.list_(pa.struct([("label", pa.string()), ("confidence", pa.float32())]))),
        ("error", pa.string()),
        ("truth", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What every task needs to know; plain data, so that it travels."""

    export: Export
    batch_size: int
    top_k: int
    threads: int


@dataclasses.dataclass(frozen=True)
class Item:
    """One image to classify. ``read`` gives its bytes, and may raise; ``truth`` is its class where that is known."""

    path: str
    read: Callable[[], bytes]
    truth: str | None = None


def file_item(path: str, truth: str | None = None) -> Item:
    """An image in a file of its own."""
    return Item(path, functools.partial(storage.read_bytes, storage.plain(path)), truth)


def truth_from_path(path: str, classes: Iterable[str]) -> str | None:
    """The class that the image's folder is named after, if it is one."""
    parts = path.rsplit("/", 2)
    name = class_name(parts[-2]) if len(parts) > 2 else ""
    return name if name in classes else None


_Decoded = tuple[Item, np.ndarray | None, str | None]


def _decode(item: Item, spec: decode.Spec) -> _Decoded:
    try:
        return item, prepare(item.read(), spec), None
    except BadImageError as bad:
        return item, None, f"{bad.reason}: {bad.detail}"
    except (OSError, ValueError) as error:
        # Files vanish, rights are missing, stores fail: this image is a row that says so, and the job goes on.
        return item, None, f"{decode.UNREADABLE}: {type(error).__name__}: {str(error)[:200]}"


def _batches(items: Iterable[Item], spec: decode.Spec, size: int) -> Iterator[list[_Decoded]]:
    batch: list[_Decoded] = []
    for item in items:
        batch.append(_decode(item, spec))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def ahead(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, made in a thread of their own up to ``depth`` ahead. Raises what ``source`` raises."""
    iterator, end = iter(source), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = deque(thread.submit(next, iterator, end) for _ in range(depth))
        while (value := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, iterator, end))
            yield value  # type: ignore[misc]


@functools.lru_cache(maxsize=1)
def _classifier(export_folder: str, version: str, threads: int) -> Any:
    """The model, loaded once per Python worker: Spark keeps workers for the next tasks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its remarks would come from every worker
    # Here and not above: the driver, which imports this module too, runs without TensorFlow.
    import_tensorflow()
    from distributed_cls.contracts.export import load_export
    from distributed_cls.predictor.classifier import Classifier, bound_threads

    bound_threads(threads)
    return Classifier(load_export(export_folder))


def classify(items: Iterable[Item], work: Work) -> Iterator[dict[str, Any]]:
    """One row (see ``SCHEMA``) per item, in order. The next images are decoded while the model runs."""
    export = work.export.materialize()
    classifier = _classifier(export.folder, export.version, work.threads)
    decoded = ahead(_batches(items, spec_for(export), work.batch_size))
    for batch in decoded:
        good = [pixels for _, pixels, _ in batch if pixels is not None]
        answers = iter(classifier.probabilities(np.stack(good)) if good else ())
        for item, pixels, error in batch:
            row: dict[str, Any] = {"path": item.path, "truth": item.truth, "error": error}
            if pixels is None:
                yield {**row, "label": None, "confidence": None, "top": None}
                continue
            likeliest = top(next(answers), export.classes, work.top_k)
            guesses = [{"label": label, "confidence": share} for label, share in likeliest]
            yield {**row, **guesses[0], "top": guesses}


def to_parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as the bytes of a Parquet file with ``SCHEMA``."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink)
    return sink.getvalue()
