"""The story of a preparation: list, decode what is new, decide, write shards, publish.

What can be known without decoding is known first, so an unchanged data set is answered at once. Decoded images lie in
parts in a work folder until the dataset is published; a run that was killed finds them there.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest
from distributed_cls.contracts.manifest import Dataset, Manifest
from distributed_cls.dataset import curate, dataset_page, duplicates, publish, shard_plan, sources, work
from distributed_cls.dataset.decode_progress import Progress, reporting
from distributed_cls.dataset.listing import Listing
from distributed_cls.errors import UserError
from distributed_cls.images.decode import Spec
from distributed_cls.spark import stage
from distributed_cls.text import printable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Raise it when the same images and settings would no longer give the same dataset.
CODE_VERSION = 4
_HASHES_WORTH_A_STAGE = 50_000  # below, a search on the driver is done before Spark would have started


@dataclass(frozen=True)
class Identity:
    """What decides a dataset's content: ``lineage`` all but the list of images, ``digest`` all."""

    lineage: str
    digest: str


@dataclass(frozen=True)
class Draft:
    """A dataset that is decided and not yet written."""

    config: DataConfig
    listing: Listing
    identity: Identity
    curated: curate.Curated
    base: Dataset | None  # the dataset that it extends
    target: str  # the folder that it will be
    workers: int


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def identify(config: DataConfig, listing: Listing) -> Identity:
    """The identity of what this configuration makes of this listing."""
    settings = dataclasses.asdict(config)
    # Where it lies and how it is cut into files change no record; whether too many are bad is asked again.
    for name in ("name", "path", "shards", "shard_megabytes", "max_reject_fraction"):
        del settings[name]
    lineage = _hash([CODE_VERSION, settings, listing.root])
    return Identity(lineage, _hash([CODE_VERSION, settings, listing.digest()]))


def prepare(
    get_spark: Callable[[], "SparkSession"],
    config: DataConfig,
    dataset_root: str,
    workers: int,
    progress: Progress | None = None,
) -> Dataset:
    """Prepare the configured images for ``workers`` ranks, or find them prepared.

    ``get_spark`` is called when there is something to do. progress(done, total) is called now and then, from another
    thread, while images are decoded. Raises UserError for what the user can put right; nothing half-written is left
    under ``dataset_root`` but the work folder, from which the next run goes on.
    """
    root = storage.absolute(dataset_root)
    listing = sources.list_images(config, root)
    identity = identify(config, listing)
    dataset = publish.find(root, config, identity.digest, workers)
    if dataset:
        log.info("Nothing changed: the prepared dataset %s is used as it is", dataset.path)
    else:
        storage.check_writable(root, "dataset_root")
        dataset = _make(get_spark(), config, listing, identity, root, workers, progress)
    publish.remove_abandoned(root, config.name)
    return dataset


def _make(
    spark: "SparkSession",
    config: DataConfig,
    listing: Listing,
    identity: Identity,
    root: str,
    workers: int,
    progress: Progress | None,
) -> Dataset:
    base = publish.find_base(root, config.name, identity.lineage)
    fingerprint = _hash(
        [identity.digest, base.manifest.fingerprint if base else None, workers, config.shards, config.shard_megabytes]
    )
    target = storage.join(root, f"{config.name}-{fingerprint}")
    work_folder = storage.join(root, publish.WORK, f"{config.name}-{fingerprint}")
    try:
        table = _decode(spark, config, listing, base, work_folder, progress)
        curated = _decide(spark, config, table, listing.classes(), base, work_folder)
        dataset = _write(spark, Draft(config, listing, identity, curated, base, target, workers))
    except curate.TooManyRejects:
        raise
    except UserError:
        publish.remove_work(work_folder)
        raise
    except Exception as error:
        _check_space(error, root)
        # Another run that prepared the same has published and removed the parts that both used.
        if not storage.exists(storage.join(target, manifest.FILE)):
            raise
        dataset = Dataset(target, manifest.load(target), reused=True)
    publish.remove_work(work_folder)
    return dataset


def _check_space(error: Exception, root: str) -> None:
    """UserError when the disk was full. A task's error arrives as text, wrapped by Spark."""
    for number in (errno.ENOSPC, errno.EDQUOT):
        if f"[Errno {number}]" in str(error):
            raise UserError(
                f"Expected room for the prepared images in dataset_root. Received: {root} ({os.strerror(number)}). "
                "Free some, or set dataset_root to another place; the next run goes on from what is decoded."
            ) from None


def _decode(
    spark: "SparkSession",
    config: DataConfig,
    listing: Listing,
    base: Dataset | None,
    work_folder: str,
    progress: Progress | None,
) -> pa.Table:
    """Decode what no earlier run has decoded; the index of all listed images."""
    storage.make_folder(work_folder)
    known = _known(work_folder, base)
    missing = index.missing(listing.table, known)
    if missing.num_rows:
        job = work.DecodeJob(
            root=listing.root,
            work_folder=work_folder,
            spec=spec_of(config),
            encoding=config.encoding,
            jpeg_quality=config.jpeg_quality,
            bytes_column=listing.bytes_column,
            perceptual_hash=config.near_duplicates is not None,
        )
        context = spark.sparkContext
        parts = shard_plan.decode_parts(missing, context.defaultParallelism)
        total = listing.table.num_rows
        done = total - missing.num_rows
        log.info("Decoding %d of %d images in %d tasks", missing.num_rows, total, len(parts))
        with reporting(progress, work_folder, done, total):
            stage.run(spark, f"prepare {config.name}: decode", functools.partial(work.decode_parts, job), parts)
        known = _known(work_folder, base)
    return index.describe(listing.table, known)


def spec_of(config: DataConfig) -> Spec:
    """How a single image is prepared under this configuration."""
    return Spec(config.image_size, config.resize, config.min_edge, config.max_pixels, config.max_bytes)


def _known(work_folder: str, base: Dataset | None) -> pa.Table:
    tables = [
        index.read(storage.join(work_folder, name))
        for name in storage.names(work_folder)
        if name.startswith(work.PART) and name.endswith(".parquet")
    ]
    if base:
        tables.append(publish.reusable_rows(base))
    return pa.concat_tables(tables) if tables else index.SCHEMA.empty_table()


def _decide(
    spark: "SparkSession", config: DataConfig, table: pa.Table, classes: list[str], base: Dataset | None, folder: str
) -> curate.Curated:
    """Conflicts, duplicates and leaks out, every other image into a split."""
    table = curate.drop_duplicates(curate.drop_conflicts(table))
    curate.check_rejects(table, config.max_reject_fraction)
    earlier = publish.assignments(base) if base else None
    groups = None
    if config.near_duplicates is not None:
        groups = _near_duplicates(spark, table, config.near_duplicates, folder)
        table, groups = curate.drop_leaks(table, groups, earlier)
    return curate.Curated(curate.assign_splits(table, classes, config, groups, earlier), classes)


def _near_duplicates(spark: "SparkSession", table: pa.Table, distance: int, folder: str) -> np.ndarray:
    """The near-duplicate group of each image that is still in, int64 [n]."""
    hashes, rows = duplicates.unique_hashes(table["hash"].take(curate.alive_rows(table)).to_pylist())
    bands = duplicates.bands(distance)
    if len(hashes) < _HASHES_WORTH_A_STAGE:
        pairs = [duplicates.band_pairs(hashes, start, stop, distance) for start, stop in bands]
    else:
        file = storage.join(folder, "hashes.bin")
        storage.write_bytes(file, hashes.tobytes())
        pairs = stage.run(spark, "prepare: near duplicates", functools.partial(work.find_pairs, file, distance), bands)
    return duplicates.group(rows, np.concatenate(pairs))


def _write(spark: "SparkSession", draft: Draft) -> Dataset:
    config = draft.config
    shards = shard_plan.shards(draft.curated, config, draft.workers, config.shards, config.shard_megabytes * 1e6)
    with publish.staging(draft.target) as folder:
        items = [(shard.file, index.to_bytes(shard.rows)) for shard in shards]
        results = stage.run(
            spark, f"prepare {config.name}: shards", functools.partial(work.write_shards, folder), items
        )
        content = _manifest(draft, shards, results)
        placed = publish.write_tables(folder, draft.curated, shards, results)
        html = dataset_page.render(content, placed, folder, draft.listing)
        storage.write_bytes(storage.join(folder, dataset_page.FILE), html.encode())
        storage.write_bytes(storage.join(folder, manifest.FILE), manifest.dumps(content).encode())
    _log_rejects(content)
    return Dataset(draft.target, manifest.load(draft.target), reused=False)


def _manifest(draft: Draft, shards: list[shard_plan.ShardPlan], results: list[work.ShardResult]) -> Manifest:
    config, curated, base = draft.config, draft.curated, draft.base
    files: dict[str, list[manifest.Shard]] = {name: [] for name in manifest.SPLITS}
    for shard, result in zip(shards, results, strict=True):
        files[shard.split].append(manifest.Shard(result.file, result.records, result.bytes, result.crc32c))
    rejected = curated.rejected()
    named = rejected.select(["path", "row", "reason", "detail"]).slice(0, manifest.NAMED_REJECTS)
    named = named.set_column(0, "path", pa.array(curate.places(named))).drop_columns(["row"])
    reasons = {row["values"]: row["counts"] for row in rejected["reason"].value_counts().to_pylist()}
    return Manifest(
        name=config.name,
        fingerprint=draft.target.rsplit("-", 1)[1],
        classes=curated.classes,
        image_size=config.image_size,
        encoding=config.encoding,
        resize=config.resize,
        seed=config.seed,
        split_salt=config.split_salt,
        fractions=dict(zip(manifest.SPLITS, config.split, strict=True)),
        counts=shard_plan.counts(curated),
        shards=files,
        rejected=rejected.num_rows,
        rejected_by_reason=dict(sorted(reasons.items())),
        rejects=named.to_pylist(),
        duplicates=curated.duplicates(),
        source=f"{config.source}:{draft.listing.root}",
        source_digest=draft.identity.digest,
        lineage=draft.identity.lineage,
        generation=base.manifest.generation + 1 if base else 1,
        base=base.manifest.fingerprint if base else None,
    )


def _log_rejects(content: Manifest) -> None:
    if content.rejected:
        named = "; ".join(f"{printable(reject['path'])} ({reject['reason']})" for reject in content.rejects[:5])
        if content.rejected > 5:
            by_count = sorted(content.rejected_by_reason.items(), key=lambda item: -item[1])
            reasons = ", ".join(f"{reason} {count}" for reason, count in by_count)
            named = f"{reasons}; for example {printable(content.rejects[0]['path'])}; see rejects.parquet"
        log.warning("%d images are left out: %s", content.rejected, named)
    if content.duplicates:
        log.info("%d images are left out because the same picture is there already", content.duplicates)
    total = {split: sum(classes.values()) for split, classes in content.counts.items()}
    log.info("Prepared %s", ", ".join(f"{split} {count}" for split, count in total.items()))
