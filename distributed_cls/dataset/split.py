"""Which image goes to which split: stratified, by content, stable when images are added. Pure functions of arrays."""

import hashlib

import numpy as np

SPLIT_COUNT = 3


def hash_order(keys: np.ndarray, salt: str) -> np.ndarray:
    """A pseudo-random number per content key, uint64 [n], which depends on nothing but the key and ``salt``.

    ``keys``: uint8 [n, 16]. Another salt gives an independent order.
    """
    prefix = hashlib.blake2b(salt.encode(), digest_size=16).digest()
    numbers = [int.from_bytes(hashlib.blake2b(prefix + key.tobytes(), digest_size=8).digest(), "big") for key in keys]
    return np.array(numbers, np.uint64)


def assign(
    labels: np.ndarray,
    groups: np.ndarray,
    order: np.ndarray,
    fractions: list[float],
    earlier: np.ndarray | None = None,
) -> np.ndarray:
    """The split of every image, int8 [n]: 0 train, 1 val, 2 test.

    labels: class of each image, int [n]. groups: images of one group stay together, int [n] (n different numbers when
    nothing is grouped). order: uint64 [n], decides who goes first. earlier: int8 [n], the split of an image in an
    earlier preparation, -1 for a new one; it is kept.

    Each group goes to the split that its classes miss most. For single images this ends within less than one image of
    the fractions in every class: whenever a split is given an image, it misses the most, so it misses more than none.
    """
    classes = int(labels.max()) + 1 if len(labels) else 0
    targets = np.outer(np.bincount(labels, minlength=classes), fractions)
    missing = targets.copy()
    result = np.full(len(labels), -1, np.int8)
    if earlier is not None:
        result[:] = earlier
        for split in range(SPLIT_COUNT):
            missing[:, split] -= np.bincount(labels[earlier == split], minlength=classes)
    for members in _by_size(groups, order):
        here = result[members]
        kept = here[here >= 0]
        new = members[here < 0]
        if not len(new):
            continue
        counts = np.bincount(labels[new], minlength=classes)
        # A newcomer joins its relatives, and those of an old group that already sit apart stay where they are.
        split = int(np.bincount(kept).argmax()) if len(kept) else int((counts @ missing).argmax())
        result[new] = split
        missing[:, split] -= counts
    return result


def _by_size(groups: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """The members of each group as index arrays: large groups first (single images can still even them out)."""
    if not len(groups):
        return []
    by_group = np.lexsort((order, groups))
    borders = np.flatnonzero(np.diff(groups[by_group])) + 1
    members = np.split(by_group, borders)
    return sorted(members, key=lambda group: (-len(group), int(order[group[0]])))


def even_parts(count: int, parts: int) -> np.ndarray:
    """Borders that cut ``count`` records into ``parts`` runs whose lengths differ by at most one: int64 [parts + 1]."""
    return np.arange(parts + 1, dtype=np.int64) * count // parts


def shard_counts(
    counts: list[int], sizes: list[int], workers: int, wanted: int | None, target_bytes: float
) -> list[int]:
    """How many shards each split gets. counts: records, sizes: bytes per split.

    The train split's number is a multiple of ``workers`` while it has that many records; no shard is empty.
    """
    shards = [max(1, round(size / target_bytes)) for size in sizes]
    shards[0] = -(-(wanted or shards[0]) // workers) * workers
    if counts[0] < shards[0]:
        shards[0] = max(counts[0] // workers * workers, min(counts[0], workers), 1)
    return [max(1, min(number, count)) for number, count in zip(shards, counts, strict=True)]
