"""What one Spark task does: read images ahead, classify them in full batches, give one row per image.

Nothing here is tied to Spark: items come from an iterator, rows leave through one. TensorFlow is imported when the
first batch is classified, once per Python worker.
"""

import functools
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from distributed_cls import storage
from distributed_cls.contracts import rejects
from distributed_cls.contracts.export import Export, load_export
from distributed_cls.contracts.predict_output import Prediction
from distributed_cls.images import decode
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.predictor.image_input import BadImageError, prepare
from distributed_cls.predictor.likeliest import top
from distributed_cls.text import class_name

if TYPE_CHECKING:
    from distributed_cls.predictor.classifier import Classifier

T = TypeVar("T")


@dataclass(frozen=True)
class PredictTask:
    """What every task needs to know; plain data, so that Spark can send it."""

    export: Export
    batch_size: int
    top_k: int
    threads: int


@dataclass(frozen=True)
class Item:
    """One image to classify. ``read`` gives its bytes, and may raise; ``truth`` is its class where that is known."""

    path: str
    read: Callable[[], bytes]
    truth: str | None = None


def file_item(path: str, truth: str | None = None, size: int = 0) -> Item:
    """An image in a file of its own; ``size`` in bytes where it is known."""
    return Item(path, functools.partial(_read_file, storage.plain(path), size), truth)


def _read_file(path: str, size: int) -> bytes:
    """The bytes of an image file. What is no file, or too large for an image, is refused unread."""
    if not storage.is_url(path):
        status = storage.local(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise BadImageError(rejects.MISSING, "not a regular file")
        size = status.st_size
    if size > decode.Spec.max_bytes:
        raise BadImageError(rejects.TOO_MANY_BYTES, f"{size} bytes, at most {decode.Spec.max_bytes}")
    return _retried(lambda: storage.read_bytes(path))


def _retried(read: Callable[[], bytes]) -> bytes:
    """What ``read`` gives, also when a device or a store fails for a moment; its last error is raised."""
    try:
        return read()  # nearly always enough, and nothing is set up for it
    except Exception as error:
        if not storage.may_pass(error):
            raise
    return storage.attempts(most=storage.ATTEMPTS - 1)(read)


def truth_from_path(path: str, classes: Iterable[str]) -> str | None:
    """The class that the image's folder is named after, if it is one."""
    parts = path.rsplit("/", 2)
    name = class_name(parts[-2]) if len(parts) > 2 else ""
    return name if name in classes else None


_Decoded = tuple[Item, np.ndarray | None, str | None]


def _decode(item: Item, export: Export) -> _Decoded:
    try:
        return item, prepare(item.read(), export), None
    except BadImageError as bad:
        return item, None, f"{bad.reason}: {bad.detail}"
    except Exception as error:
        # Files vanish, rights are missing, every store has errors of its own: this image is a row that says so, and
        # the job goes on.
        return item, None, f"{rejects.UNREADABLE}: {type(error).__name__}: {storage.reason_of(error)}"


def _batches(items: Iterable[Item], export: Export, size: int) -> Iterator[list[_Decoded]]:
    batch: list[_Decoded] = []
    for item in items:
        batch.append(_decode(item, export))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def prefetch(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, made in a thread of their own up to ``depth`` ahead. Raises what ``source`` raises."""
    iterator, end = iter(source), object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        coming = deque(thread.submit(next, iterator, end) for _ in range(depth))
        while (value := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, iterator, end))
            yield value  # type: ignore[misc]


@functools.lru_cache(maxsize=1)
def _classifier(export_folder: str, version: str, threads: int) -> "Classifier":
    """The model, loaded once per Python worker: Spark keeps workers for the next tasks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its remarks would come from every worker
    # Here and not above: the driver, which imports this module too, runs without TensorFlow.
    import_tensorflow()
    from distributed_cls.predictor.classifier import Classifier, bound_threads

    bound_threads(threads)
    return Classifier(load_export(export_folder))


def classify(items: Iterable[Item], task: PredictTask) -> Iterator[Prediction]:
    """One row per item, in order. The next images are decoded while the model runs."""
    export = task.export.materialize()
    classifier = _classifier(export.folder, export.version, task.threads)
    for batch in prefetch(_batches(items, export, task.batch_size)):
        good = [pixels for _, pixels, _ in batch if pixels is not None]
        answers = iter(classifier.answers(np.stack(good)) if good else ())
        for item, pixels, error in batch:
            if pixels is None:
                yield Prediction(item.path, error=error, truth=item.truth)
                continue
            answer = next(answers)
            likeliest = tuple(top(answer.probabilities, export.classes, task.top_k))
            label, confidence = likeliest[0]
            accepted = export.confidence.accepts(confidence, answer.energy)
            yield Prediction(item.path, label, confidence, likeliest, truth=item.truth, accepted=accepted)
