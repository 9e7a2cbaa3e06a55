"""A preparation from top to bottom: list, decode what is new, decide, write shards, publish.

What can be known without decoding is known first, so an unchanged data set is answered at once. Decoded images lie in
parts in a work folder until the dataset is published; a run that was killed finds them there.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest, rejects
from distributed_cls.contracts.manifest import Dataset, Manifest
from distributed_cls.dataset import curate, dataset_page, duplicates, listing_checks, publish, shard_plan, sources, work
from distributed_cls.dataset import groups as named_groups
from distributed_cls.dataset.decode_progress import Progress, reporting
from distributed_cls.dataset.identity import Identity, digest_of, identify
from distributed_cls.dataset.listing import Listing
from distributed_cls.errors import UserError
from distributed_cls.images import decode
from distributed_cls.images.decode import Spec
from distributed_cls.spark import stage
from distributed_cls.text import printable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_HASHES_WORTH_A_STAGE = 50_000  # below, a search on the driver is done before Spark would have started


def prepare(
    get_spark: Callable[[], "SparkSession"], config: DataConfig, dataset_root: str, progress: Progress | None = None
) -> Dataset:
    """Prepare the configured images, or find them prepared. The dataset serves any number of ranks.

    ``get_spark`` is called when there is something to do. progress(done, total) is called now and then, from another
    thread, while images are decoded. Raises UserError for what the user can put right; nothing half-written is left
    under ``dataset_root`` but the work folder, from which the next run goes on.
    """
    root = storage.absolute(dataset_root)
    named = storage.environment_named(
        "Expected dataset_root to have room, and the right to read and write it.",
        f"dataset_root={root}",
        "Free some space or change its rights, or set dataset_root to another place; the next run goes on from what is "
        "decoded.",
    )
    with named:
        listing = sources.list_images(config, root)
        listing_checks.check(config, listing)
        identity = identify(config, listing)
        found = publish.find(root, config, identity.digest)
        if found and not _may_gain(found, root):
            log.info("Using prepared dataset %s: nothing has changed", found.path)
            dataset = found
        else:
            storage.check_writable(root, "dataset_root")
            base = publish.find_base(root, config.name, identity.lineage) or found
            dataset = Preparation(get_spark, progress, config, listing, identity, root, base, found).run()
        publish.remove_abandoned(root, config.name)
    return dataset


def _may_gain(found: Dataset, root: str) -> bool:
    """Whether images that could not be read when ``found`` was prepared are to be read again."""
    reasons = found.manifest.rejected_by_reason
    unsupported = reasons.get(rejects.UNSUPPORTED, 0) if decode.all_formats_decodable() else 0
    count = reasons.get(rejects.UNREADABLE, 0) + unsupported
    if not count:
        return False
    try:
        storage.check_writable(root, "dataset_root")
    except UserError:
        log.warning("%d images of %s could not be read; dataset_root is read-only, so it is used so", count, found.path)
        return False
    log.info("%d images of %s could not be read: they are read again", count, found.path)
    return True


@dataclass(frozen=True)
class Preparation:
    """One run of the preparation: the listing, what earlier runs have left, and where the result will lie.

    base: the dataset that it extends. unread: the dataset of the same listing and settings, of which some images could
    not be read.
    """

    get_spark: Callable[[], "SparkSession"]
    progress: Progress | None
    config: DataConfig
    listing: Listing
    identity: Identity
    root: str
    base: Dataset | None
    unread: Dataset | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the dataset: the same for the same content in the same shards."""
        base = self.base.manifest.fingerprint if self.base else None
        config = self.config
        return digest_of([self.identity.digest, base, config.shards, config.shard_megabytes, config.channels])

    @property
    def target(self) -> str:
        """The folder that the dataset will be."""
        return storage.join(self.root, manifest.folder_name(self.config.name, self.fingerprint))

    @property
    def work_folder(self) -> str:
        """Where decoded images lie until then."""
        return storage.join(self.root, publish.WORK, manifest.folder_name(self.config.name, self.fingerprint))

    @functools.cached_property
    def spark(self) -> "SparkSession":
        """Spark, started when it is first asked for."""
        return self.get_spark()

    def run(self) -> Dataset:
        """Decode, decide, write, publish."""
        there_before = self._is_published()
        try:
            table = self._decode()
            dataset = self._unchanged(table) or self._write(self._decide(table))
        except Exception as error:
            # Another run that prepared the same has published, and removed the parts that both used: this one may have
            # found none of them, or half.
            if there_before or not self._is_published():
                if isinstance(error, UserError) and not isinstance(error, curate.TooManyRejects):
                    publish.remove_work(self.work_folder)
                raise
            dataset = Dataset(self.target, manifest.load(self.target), reused=True)
        publish.remove_work(self.work_folder)
        return dataset

    def _is_published(self) -> bool:
        return storage.exists(storage.join(self.target, manifest.FILE))

    def _unchanged(self, table: pa.Table) -> Dataset | None:
        """The dataset of which some images could not be read, when they still cannot."""
        if self.unread is None:
            return None
        left = pc.sum(pc.is_in(table["reason"], pa.array(rejects.NOT_REMEMBERED))).as_py() or 0
        if left < self.unread.manifest.not_remembered:
            return None
        log.warning("%d images still cannot be read: %s is used as it is", left, self.unread.path)
        return self.unread

    # ── decode ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _decode(self) -> pa.Table:
        """Decode what no earlier run has decoded; the index of all listed images."""
        storage.make_folder(self.work_folder)
        known = self._known()
        missing = index.missing(self.listing.table, index.remembered(known))
        if missing.num_rows:
            job = work.DecodeJob(
                root=self.listing.root,
                work_folder=self.work_folder,
                spec=spec_of(self.config),
                encoding=self.config.encoding,
                jpeg_quality=self.config.jpeg_quality,
                bytes_column=self.listing.bytes_column,
                perceptual_hash=self.config.near_duplicates is not None,
                channels=self.config.channels,
            )
            parts = shard_plan.decode_parts(missing, self.spark.sparkContext.defaultParallelism)
            total = self.listing.table.num_rows
            log.info("Decoding %d of %d images in %d tasks", missing.num_rows, total, len(parts))
            with reporting(self.progress, self.work_folder, parts, total):
                self._stage("decode", functools.partial(work.decode_parts, job), parts)
            known = self._known()
        return index.describe(self.listing.table, known)

    def _known(self) -> pa.Table:
        tables = [
            index.read(storage.join(self.work_folder, name))
            for name in storage.names(self.work_folder)
            if name.startswith(work.PART) and name.endswith(".parquet")
        ]
        if self.base:
            tables.append(publish.reusable_rows(self.base))
        return pa.concat_tables(tables) if tables else index.SCHEMA.empty_table()

    def _stage(self, name: str, task: Callable[[Iterable[T]], Iterable[R]], items: Sequence[T]) -> list[R]:
        return stage.run(self.spark, f"prepare {self.config.name}: {name}", task, items)

    # ── decide ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, table: pa.Table) -> curate.Curated:
        """Conflicts, duplicates and leaks out, every other image into a split."""
        classes = self.listing.classes()
        table = curate.drop_duplicates(curate.drop_conflicts(table))
        curate.check_rejects(table, self.config.max_reject_fraction)
        earlier = publish.assignments(self.base) if self.base else None
        groups = None
        if self.config.near_duplicates is not None:
            groups = self._near_duplicates(table, self.config.near_duplicates)
            table, groups = curate.drop_leaks(table, groups, earlier)
        if self.config.grouped:
            table, groups = curate.drop_leaks(table, named_groups.joined(table, groups), earlier, rejects.GROUP)
            named_groups.warn_of_torn(table)
        decided = curate.assign_splits(table, classes, self.config, groups, earlier)
        if groups is not None and self.config.grouped:
            named_groups.warn_of_large(table, decided, groups, self.config)
        return curate.Curated(decided, classes)

    def _near_duplicates(self, table: pa.Table, distance: int) -> np.ndarray:
        """The near-duplicate group of each image that is still in, int64 [n]."""
        kept = table.take(curate.kept_indices(table))
        hashes, rows = duplicates.unique_hashes(kept["hash"].to_pylist())
        labels = np.zeros(len(hashes), np.int64)  # of one of the pictures with that hash
        codes = kept["label"].combine_chunks().dictionary_encode().indices.to_numpy()
        labels[rows[rows >= 0]] = codes[rows >= 0]
        bands = duplicates.bands(distance)
        if len(hashes) < _HASHES_WORTH_A_STAGE:
            pairs = [duplicates.band_pairs(hashes, band, distance, labels) for band in bands]
        else:
            file = storage.join(self.work_folder, "hashes.bin")
            work.write_hashes(file, hashes, labels)
            pairs = self._stage("near duplicates", functools.partial(work.find_pairs, file, distance), bands)
        return duplicates.group(rows, np.concatenate(pairs))

    # ── write ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, curated: curate.Curated) -> Dataset:
        shards = shard_plan.shards(curated, self.config)
        channels = self._channels(curated)
        raw_bytes = self.config.image_size**2 * channels if self.config.encoding == "raw" else None
        with publish.staging(self.target) as folder:
            items = [(shard.file, index.to_bytes(shard.rows)) for shard in shards]
            results = self._stage("shards", functools.partial(work.write_shards, folder, raw_bytes), items)
            content = self._manifest(curated, shards, results, channels)
            placed = publish.write_tables(folder, curated, shards, results)
            html = dataset_page.render(content, placed, folder, self.listing)
            storage.write_text(storage.join(folder, manifest.PAGE_FILE), html)
            manifest.write(folder, content)
        _log_rejects(content)
        return Dataset(self.target, manifest.load(self.target), reused=False)

    def _channels(self, curated: curate.Curated) -> int:
        """Of every image: as the settings say, or one when all that are kept are grey."""
        if self.config.channels != "auto":
            return int(self.config.channels)
        return 1 if index.all_grey(curated.kept()) else 3

    def _manifest(
        self,
        curated: curate.Curated,
        shards: list[shard_plan.ShardPlan],
        results: list[work.ShardResult],
        channels: int,
    ) -> Manifest:
        files: dict[str, list[manifest.Shard]] = {name: [] for name in manifest.SPLITS}
        for shard, result in zip(shards, results, strict=True):
            files[shard.split].append(manifest.Shard(result.file, result.records, result.bytes, result.crc32c))
        config, base = self.config, self.base.manifest if self.base else None
        return Manifest(
            name=config.name,
            fingerprint=self.fingerprint,
            classes=curated.classes,
            image_size=config.image_size,
            encoding=config.encoding,
            resize=config.resize,
            seed=config.seed,
            split_salt=config.split_salt,
            fractions=dict(zip(manifest.SPLITS, config.split, strict=True)),
            counts=shard_plan.counts(curated),
            shards=files,
            channels=channels,
            rejected=curated.rejected().num_rows,
            rejected_by_reason=curated.rejected_by_reason(),
            rejects=curated.named_rejects(manifest.NAMED_REJECTS),
            duplicates=curated.duplicates(),
            source=config.source,
            source_root=self.listing.root,
            source_digest=self.identity.digest,
            lineage=self.identity.lineage,
            generation=base.generation + 1 if base else 1,
            base=base.fingerprint if base else None,
        )


def spec_of(config: DataConfig) -> Spec:
    """How a single image is prepared under this configuration."""
    return Spec(config.image_size, config.resize, config.min_edge, config.max_pixels, config.max_bytes)


def _log_rejects(content: Manifest) -> None:
    if content.rejected:
        named = "; ".join(f"{printable(reject['path'])} ({reject['reason']})" for reject in content.rejects[:5])
        if content.rejected > 5:
            by_count = sorted(content.rejected_by_reason.items(), key=lambda item: -item[1])
            reasons = ", ".join(f"{reason} {count}" for reason, count in by_count)
            named = f"{reasons}; for example {printable(content.rejects[0]['path'])}; see {index.REJECTS_FILE}"
        log.warning("%d images are left out: %s", content.rejected, named)
    if content.duplicates:
        log.info("%d images are left out because the same picture is there already", content.duplicates)
    total = {split: sum(classes.values()) for split, classes in content.counts.items()}
    counted = ", ".join(f"{split} {count}" for split, count in total.items())
    log.info("Prepared %s in %s", counted, "grey" if content.channels == 1 else "colour")
