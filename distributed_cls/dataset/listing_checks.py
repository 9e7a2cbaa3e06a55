"""Checks of a listing before anything is decoded: every class must be able to fill every split."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls.config import DataConfig
from distributed_cls.contracts.manifest import SPLITS
from distributed_cls.dataset import curate, groups, split
from distributed_cls.dataset.listing import Listing
from distributed_cls.errors import UserError
from distributed_cls.text import printable


def check(config: DataConfig, listing: Listing) -> None:
    """Raise UserError when the listing cannot give each class an image in every split."""
    given = listing.table["split"].to_numpy()
    _check_all_or_none(listing.table, given)
    final, fractions = curate.given_splits(given, config.split)
    classes = listing.classes()
    labels = pc.index_in(listing.table["label"], pa.array(classes)).to_numpy()
    for number, name in enumerate(SPLITS):
        if (final == number).any():
            _check_given(classes, np.bincount(labels[final == number], minlength=len(classes)), name)
    if (final < 0).any():
        groups.check_enough(config, listing.table.filter(pa.array(final < 0)), fractions)
        _check_open(config, classes, np.bincount(labels[final < 0], minlength=len(classes)), fractions)


def _check_all_or_none(table: pa.Table, given: np.ndarray) -> None:
    without = np.flatnonzero(given < 0)
    if 0 < len(without) < len(given):
        example = curate.places(table.select(["path", "row"]).take(without[:1]))[0]
        raise UserError(
            f"Expected a split for every image, since the source gives some. Received: {len(without)} of {len(given)} "
            f"images without one, for example {printable(example)}. Complete the splits, or remove them all."
        )


def _others(count: int) -> str:
    return f" (and {count} more classes like it)" if count else ""


def _check_given(classes: list[str], counts: np.ndarray, split_name: str) -> None:
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        name = printable(classes[absent[0]])
        raise UserError(
            f"Expected every class to have an image in the given split {split_name}. Received: class {name} with none"
            f"{_others(len(absent) - 1)}. Add images of {name} to {split_name}, or remove the class."
        )


def _check_open(config: DataConfig, classes: list[str], counts: np.ndarray, fractions: list[float]) -> None:
    least = split.least_images(fractions)
    # Fewer may be enough too, where the rounding falls well.
    short = [count < least and not split.fills_every_split(count, fractions) for count in counts.tolist()]
    few = np.flatnonzero(short).tolist()
    if few:
        rarest = min(few, key=lambda n: int(counts[n]))
        name = printable(classes[rarest])
        wanted = [name for name, part in zip(SPLITS, fractions, strict=True) if part > 0]
        raise UserError(
            f"Expected at least {least} images per class, so that {', '.join(wanted)} get one each with "
            f"data.split={config.split}. Received: class {name} with {int(counts[rarest])}{_others(len(few) - 1)}. "
            f"Add images to {name}, remove the class, or change data.split."
        )
