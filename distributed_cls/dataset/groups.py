"""Groups: images that belong together (photos of one car, views of one garment) and must share a split."""

import logging
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls.config import DataConfig
from distributed_cls.contracts.index import LISTING_SCHEMA
from distributed_cls.contracts.manifest import SPLITS
from distributed_cls.contracts.rejects import DUPLICATE, GROUP
from distributed_cls.dataset import curate
from distributed_cls.dataset.duplicates import components
from distributed_cls.dataset.listing import Listing
from distributed_cls.errors import UserError
from distributed_cls.text import printable

log = logging.getLogger(__name__)


def named(config: DataConfig, listing: Listing) -> Listing:
    """The listing with the group of each image, where the settings ask for groups.

    Raises UserError when no image is in one; one line tells how many are in none and stay alone.
    """
    if config.group_pattern:
        listing = Listing(listing.root, _with_matches(listing.table, config.group_pattern), listing.bytes_column)
    setting = "group_pattern" if config.group_pattern else "group_column"
    value = getattr(config, setting)
    if value is None:
        return listing
    alone = pc.is_null(listing.table["group"])
    without = pc.sum(alone).as_py() or 0
    if not without:
        return listing
    example = curate.places(listing.table.filter(alone).slice(0, 1))[0]
    if without == listing.table.num_rows:
        expected = "match some paths" if config.group_pattern else "name a column of a table that has values"
        raise UserError(
            f"Expected data.{setting} to {expected}. Received: data.{setting}={value}, which puts none of {without} "
            f"images (source={config.source}) in a group, for example {printable(example)}. Correct it."
        )
    log.warning("Images that data.%s puts in no group: %d, for example %s", setting, without, printable(example))
    return listing


def _with_matches(table: pa.Table, pattern: str) -> pa.Table:
    """The listing grouped by its paths: the first group of the expression, or the whole match."""
    expression = re.compile(pattern)
    part = 1 if expression.groups else 0
    coded = table["path"].combine_chunks().dictionary_encode()  # a Parquet file's path stands for many images
    found = [expression.search(path) for path in coded.dictionary.to_pylist()]
    names = pa.array([match[part] or None if match else None for match in found], pa.string())
    place = LISTING_SCHEMA.get_field_index("group")
    return table.set_column(place, LISTING_SCHEMA.field(place), names.take(coded.indices))


def joined(table: pa.Table, groups: np.ndarray | None) -> np.ndarray:
    """The group of each image that is still in, int64 [n]: equal where names or near duplicates connect two images.

    table: the index. groups: near-duplicate group of each, None without that search. A picture that occurs twice, of
    which one is left out, connects the groups of both.
    """
    kept = curate.kept_indices(table)
    count = len(kept)
    near = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    again = pc.fill_null(pc.equal(table["reason"], DUPLICATE), False).to_numpy()
    rows = np.concatenate([kept, np.flatnonzero(again)])
    originals = pc.index_in(table["key"].take(rows[count:]), table["key"].take(kept).combine_chunks())
    images = np.concatenate([np.arange(count), pc.fill_null(originals, -1).to_numpy()])
    codes = table["group"].take(rows).combine_chunks().dictionary_encode().indices
    codes = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    some = (codes >= 0) & (images >= 0)
    edges = [
        np.stack([np.arange(count), count + near], axis=1),
        np.stack([images[some], 2 * count + codes[some]], axis=1),
    ]
    return components(2 * count + int(codes.max(initial=-1)) + 1, np.concatenate(edges))[:count]


def check_enough(config: DataConfig, table: pa.Table, fractions: list[float]) -> None:
    """Raise UserError for a class with fewer groups and single images than there are splits to fill.

    table: the rows of a listing whose split is open.
    """
    if not config.grouped:
        return
    splits = [name for name, part in zip(SPLITS, fractions, strict=True) if part > 0]
    alone = pa.array([f"\0{number}" for number in range(table.num_rows)])
    units = pa.table({"label": table["label"], "unit": pc.coalesce(table["group"], alone)})
    counts = units.group_by("label").aggregate([("unit", "count_distinct")]).sort_by("unit_count_distinct")
    fewest, label = counts["unit_count_distinct"][0].as_py(), counts["label"][0].as_py()
    if fewest < len(splits):
        raise UserError(
            f"Expected every class to have at least {len(splits)} groups, one for each of {', '.join(splits)}. "
            f"Received: class {printable(label)} with {fewest}. Add images, or choose smaller groups "
            "(data.group_column, data.group_pattern)."
        )


def warn_of_torn(table: pa.Table) -> None:
    """One line on the images that are left out because the rest of their group is in another split."""
    torn = table.filter(pc.fill_null(pc.equal(table["reason"], GROUP), False))
    if torn.num_rows:
        example = f"{curate.places(torn.slice(0, 1))[0]} {torn['detail'][0].as_py()}"
        log.warning(
            "Images of groups that lie in several splits are left out: %d, for example %s",
            torn.num_rows,
            printable(example),
        )


def warn_of_large(before: pa.Table, table: pa.Table, groups: np.ndarray, config: DataConfig) -> None:
    """One line when a group has more images than the smallest split is to have.

    before, table: the index before and after the splits were assigned. groups: of each image that is still in.
    """
    kept = curate.kept_indices(table)
    final, fractions = curate.given_splits(before["split"].to_numpy()[kept], config.split)
    splits = table["split"].to_numpy()[kept]
    members = np.bincount(groups[final < 0], minlength=1)
    wanted = [part * int((final < 0).sum()) for part in fractions]
    smallest = min((n for n, part in enumerate(fractions) if part > 0), key=fractions.__getitem__)
    largest = int(members.argmax())
    if members[largest] <= wanted[smallest]:
        return
    rows = np.flatnonzero(groups == largest)
    names = table["group"].take(kept[rows]).drop_null().unique().to_pylist()
    shown = ", ".join(printable(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
    counts = ", ".join(f"{name} {int((splits == n).sum())}" for n, name in enumerate(SPLITS))
    log.warning(
        "The group %s has %d images, more than data.split gives to %s (%d): it is whole in %s; the splits have %s",
        shown or "of near duplicates",
        members[largest],
        SPLITS[smallest],
        round(wanted[smallest]),
        SPLITS[splits[rows[0]]],
        counts,
    )
