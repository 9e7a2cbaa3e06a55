"""The feature cache: while a backbone is frozen, its output for an image never changes, and is computed once.

A Spark stage computes it for all shards of a data set, and stores it there (``contracts/features.py``), where every run
and every trial with the same backbone and weights finds it. The ranks then train the head on it alone.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.contracts import checkpoint, features, manifest
from distributed_cls.contracts.features import FeatureJob, Features, Images, Origin, WrittenFeatures
from distributed_cls.contracts.manifest import Dataset, Shard
from distributed_cls.errors import UserError
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.run.progress import Display
from distributed_cls.run_context import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.config import Config

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_TASKS_PER_CORE = 2  # a core that is slower than the others holds them up for the time of one task at most
_ABANDONED_SECONDS = 86_400.0  # a run that is alive adds a file to its folder long before


def provide(
    run: Run,
    dataset: Dataset,
    start_weights: str | None,
    get_spark: Callable[[], "SparkSession"],
    display: Display,
) -> str | None:
    """The folder with the features of ``dataset`` under the frozen backbone of ``run``; None: the ranks compute it.

    start_weights: the file that the backbone begins from. ``get_spark`` is called when there is something to compute.
    Raises UserError: they cannot be computed or stored.
    """
    if start_weights is None or not run.config.model.frozen or run.config.model.keeps_features == "off":
        return None
    found = checkpoint.newest_position(run.folder / "checkpoints")
    if found is not None and found[1].first_phase is not None:
        return None  # in its second phase the backbone is no longer frozen
    reason = _reason_against(run.config)
    if reason:
        log.info("The backbone is computed in every epoch: %s", reason)
        return None
    keras = importlib.metadata.version("keras")
    origin = Origin.of(dataset.manifest.fingerprint, run.config, _checksum(start_weights), keras)
    folder = storage.join(dataset.path, features.FOLDER, origin.digest)
    damage = _damage(folder)
    if damage is None:
        log.info("Features of the frozen backbone: reused, %s", folder)
        return folder
    if damage:
        log.warning("Features of the frozen backbone are computed again. %s", damage)
    try:
        storage.check_writable(storage.join(dataset.path, features.FOLDER), "dataset_root")
    except UserError as error:
        if run.config.model.keeps_features == "on":
            raise
        log.info("The backbone is computed in every epoch, its features cannot be stored. %s", error)
        return None
    named = storage.environment_named(
        "Expected room for the features of the backbone beside the images.",
        dataset.path,
        "Free some space, or set model.feature_cache=off.",
    )
    with run.timed("features"), named:
        _compute(get_spark(), dataset, origin, start_weights, folder, run.config, display, bool(damage))
    return folder


def _reason_against(config: "Config") -> str:
    """Why ``auto`` does without the features; empty: it does not."""
    hindrance = config.feature_hindrance
    if hindrance:
        return hindrance[0]
    if config.cluster.gpus_per_worker and config.model.keeps_features == "auto":
        return "the Spark stage that stores features has no GPU (model.feature_cache=on lets CPUs do it once)"
    return ""


def _checksum(path: str) -> str:
    digest = hashlib.sha256()
    for block in storage.blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _damage(folder: str) -> str | None:
    """What is wrong with the features in ``folder``: None when they are whole, empty when there are none.

    In a store only the sizes are compared: each rank checks what it fetches.
    """
    if not features.exists(folder):
        return ""
    try:
        found = features.load(folder)
        if not storage.is_url(folder):
            for shards in found.shards.values():
                for shard in shards:
                    manifest.check_shard(folder, shard)
    except UserError as error:
        return str(error)
    return None


def _compute(
    spark: "SparkSession",
    dataset: Dataset,
    origin: Origin,
    start_weights: str,
    folder: str,
    config: "Config",
    display: Display,
    replace: bool,
) -> None:
    """Let Spark's tasks compute the features into ``folder``, which appears when all are there."""
    from distributed_cls.spark import stage

    began = time.monotonic()
    items = Images.all_of(dataset.manifest, _TASKS_PER_CORE * spark.sparkContext.defaultParallelism)
    with _staging(folder, replace) as staged:
        job = FeatureJob(origin.digest, dataset.path, staged, start_weights, config)
        with _counting(staged, items, display):
            task = functools.partial(_write_all, job)
            results = stage.run(spark, "features of the backbone", task, items)
        refused = next((result.refused for result in results if result.refused), None)
        if refused:
            raise UserError(refused)
        written: dict[str, list[Shard]] = {split: [] for split in manifest.SPLITS}
        for images, result in zip(items, results, strict=True):
            assert result.shard is not None
            written[images.split].append(result.shard)
        if not storage.is_url(folder) or replace or not features.exists(folder):
            features.write(staged, Features(origin, max(result.length for result in results), written))
    count, seconds = sum(images.records for images in items), time.monotonic() - began
    views = f", {origin.views} views of each training image" if origin.views > 1 else ""
    log.info(
        "Features of the frozen backbone: %s images%s computed in %.1f s, %s", f"{count:,}", views, seconds, folder
    )


def _write_all(job: FeatureJob, items: Iterable[Images]) -> Iterator[WrittenFeatures]:
    """What a task does; the driver, which imports this module too, runs without TensorFlow."""
    import_tensorflow()
    from distributed_cls.training import feature_shards

    yield from feature_shards.write_all(job, items)


@contextlib.contextmanager
def _staging(folder: str, replace: bool) -> Iterator[str]:
    """A folder to write into, which becomes ``folder`` when the block ends without an error.

    Of two runs that compute the same the first one's stays, unless it is damaged (``replace``). A store has no folders
    to rename: there each writes files of its own names in place, and ``features.json``, written last, says which count.
    """
    if storage.is_url(folder):
        yield folder
        return
    with storage.replacing_folder(folder, keep_existing=not replace) as staged:
        yield str(staged)
    for left in storage.local(folder).parent.glob(".*.tmp"):  # of runs that were killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                storage.remove_folder(str(left))


@contextlib.contextmanager
def _counting(staged: str, items: list[Images], display: Display) -> Iterator[None]:
    """Show how far the stage is, by the files that are there."""
    records = {images.stem: images.records for images in items}
    total, ended = sum(records.values()), threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            there = {name.partition(".")[0] for name in storage.names(staged)}
            display.count("images", sum(records.get(name, 0) for name in there), total)

    watcher = threading.Thread(target=watch, name="features-progress", daemon=True)
    display.begin("computing the features of the frozen backbone", total)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(_POLL_SECONDS)
        display.end()
