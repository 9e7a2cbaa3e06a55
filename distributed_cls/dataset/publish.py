"""Finished datasets under a root: finding one that fits, and making a new one appear all at once."""

import contextlib
import logging
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest, rejects
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset import curate, shard_plan, work
from distributed_cls.text import from_file_name

log = logging.getLogger(__name__)

WORK = ".work"  # below the root: a folder per run that is decoding, or was killed while it did
ABANDONED_DAYS = 7  # a run that is alive touches its folder every few seconds


def _is(folder: str, name: str) -> bool:
    """Whether ``folder`` is a data set's folder of this name."""
    parsed = manifest.parse_folder_name(folder)
    return parsed is not None and parsed[0] == name


def folders(root: str, name: str) -> list[str]:
    """The folder of every prepared dataset of this name."""
    paths = [storage.join(root, folder) for folder in storage.names(root) if _is(folder, name)]
    return [path for path in paths if storage.exists(storage.join(path, manifest.FILE))]


def _datasets(root: str, name: str) -> list[Dataset]:
    """Every prepared dataset of this name. Raises UserError when one is damaged: it may be the one that is wanted."""
    return [Dataset(path, manifest.load(path), reused=True) for path in folders(root, name)]


def find(root: str, config: DataConfig, digest: str) -> Dataset | None:
    """The prepared dataset with exactly this content, and with as many shards as are asked for; the latest of several.

    One whose every image could be read is preferred.
    """
    found = []
    for dataset in _datasets(root, config.name):
        content = dataset.manifest
        # As many as there are images are all that a wish for more can give.
        wanted = config.shards and min(config.shards, content.records("train"))
        if content.source_digest == digest and wanted in (None, len(content.shards["train"])):
            found.append(dataset)
    return max(found, key=lambda d: (-d.manifest.not_remembered, d.manifest.generation), default=None)


def find_base(root: str, name: str, lineage: str) -> Dataset | None:
    """The latest dataset of the same source and settings, whatever images the source had then."""
    related = [dataset for dataset in _datasets(root, name) if dataset.manifest.lineage == lineage]
    return max(related, key=lambda d: (d.manifest.generation, d.manifest.fingerprint), default=None)


def reusable_rows(base: Dataset) -> pa.Table:
    """The rows of a finished dataset's index that another run may take over, with absolute file names.

    A conflict's image was not stored, so it is not in here and is decoded again.
    """
    table = index.remembered(index.of_dataset(base.path).cast(index.SCHEMA))
    reason = table["reason"]
    table = table.filter(pc.or_(pc.is_valid(table["file"]), pc.and_(pc.is_valid(reason), pc.is_null(table["key"]))))
    duplicate = pc.fill_null(pc.equal(table["reason"], rejects.DUPLICATE), False)
    for name in ("reason", "detail"):
        column = pc.if_else(duplicate, pa.scalar(None, pa.string()), table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    files = pc.binary_join_element_wise(storage.join(base.path, ""), table["file"], "")
    return table.set_column(table.schema.get_field_index("file"), "file", files)


def assignments(base: Dataset) -> pa.Table:
    """Key and split of every image that a finished dataset keeps."""
    return index.kept(index.of_dataset(base.path)).select(["key", "split"])


@contextlib.contextmanager
def staging(target: str) -> Iterator[str]:
    """A folder to write a dataset into, which becomes ``target`` when the block ends without an error.

    An object store has no folders to rename: there the files are written in place, and the manifest, which is written
    last, makes them a dataset.
    """
    if storage.is_url(target):
        yield target
        return
    with storage.replacing_folder(target, keep_existing=True) as folder:
        yield from_file_name(str(folder))
    manifest.load(target)  # of this run or of a faster one; UserError when the folder is neither
    # What killed runs have left of the same dataset. A run that is still at it will find the finished one.
    root, _, own = target.rpartition("/")
    for name in storage.names(root):
        if name.startswith(f".{own}.") and name.endswith(".tmp"):
            storage.remove_folder(storage.join(root, name))


def write_tables(
    folder: str, curated: curate.Curated, shards: list[shard_plan.ShardPlan], results: list[work.ShardResult]
) -> pa.Table:
    """Write the index, with each image's place in the shards, and the rejects. Gives the index."""
    placed = place(curated.table, shards, results)
    index.write(storage.join(folder, index.FILE), placed)
    rejected = curated.rejected().select(["path", "row", "label", "reason", "detail", "size"])
    index.write(storage.join(folder, index.REJECTS_FILE), rejected)
    return placed


def place(table: pa.Table, shards: list[shard_plan.ShardPlan], results: list[work.ShardResult]) -> pa.Table:
    """The index with file, offset and length in the finished shards.

    A duplicate gets the place of the picture it repeats; everything else that is left out gets none.
    """
    keys, files, offsets, lengths = [], [], [], []
    for shard, result in zip(shards, results, strict=True):
        keys += shard.rows["key"].to_pylist()
        files += [result.file] * result.records
        offsets.append(result.offsets)
        lengths.append(result.lengths)
    where = pc.index_in(table["key"], pa.array(keys, pa.binary(index.KEY_BYTES)))
    places = {
        "file": pa.array(files, pa.string()),
        "offset": pa.array(np.concatenate(offsets)),
        "length": pa.array(np.concatenate(lengths)),
    }
    for name, values in places.items():
        table = table.set_column(table.schema.get_field_index(name), name, values.take(where.combine_chunks()))
    return table


def remove_work(folder: str) -> None:
    """Remove a work folder, and the folder above when it was the last."""
    storage.remove_folder(folder)
    if not storage.is_url(folder):
        with contextlib.suppress(OSError):  # another run uses it
            storage.local(folder).parent.rmdir()


def remove_abandoned(root: str, name: str) -> None:
    """Remove what killed runs of this data set have left and nothing has touched for ABANDONED_DAYS. Local roots only.

    A run that goes on after a kill takes its folder along; one whose images have changed since never asks for it again.
    """
    if storage.is_url(root):
        return
    work_folders = [
        storage.join(WORK, folder) for folder in storage.names(storage.join(root, WORK)) if _is(folder, name)
    ]
    staged = [folder for folder in storage.names(root) if folder.startswith(".") and folder.endswith(".tmp")]
    staged = [folder for folder in staged if _is(folder[1:].rsplit(".", 2)[0], name)]
    left = [storage.join(root, folder) for folder in (*work_folders, *staged)]
    limit = time.time() - ABANDONED_DAYS * 86_400
    old = [folder for folder in left if _touched(folder) < limit]
    for folder in old:
        remove_work(folder)
    gone = [folder for folder in old if not storage.exists(folder)]
    if gone:
        log.info("Removed what killed runs left over %d days ago: %s", ABANDONED_DAYS, ", ".join(gone))


def _touched(folder: str) -> float:
    """The latest modification of a folder and all in it, seconds since 1970; never, while others are removing it."""
    try:
        return max(path.stat().st_mtime for path in (storage.local(folder), *storage.local(folder).rglob("*")))
    except OSError:
        return float("inf")
