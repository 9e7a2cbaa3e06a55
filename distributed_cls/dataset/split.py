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

    Each group goes to the split that its classes miss most, the largest first; when a class has no more groups left
    than splits without an image of it, only these are asked. For single images this ends within less than one image of
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
    alone, together = _by_size(groups, order)
    alone = alone[result[alone] < 0]
    together = [members for members in together if (result[members] < 0).any()]
    left = np.bincount(labels[alone], minlength=classes)  # groups, and single images, of each class
    for members in together:
        left[np.unique(labels[members])] += 1
    for members in together:
        here = result[members]
        kept = here[here >= 0]
        new = members[here < 0]
        counts = np.bincount(labels[new], minlength=classes)
        # A newcomer joins its relatives, and those of an old group that already sit apart stay where they are.
        split = int(np.bincount(kept).argmax()) if len(kept) else _neediest(counts, missing, targets, left)
        result[new] = split
        missing[:, split] -= counts
        left[np.unique(labels[members])] -= 1
    _assign_singles(alone, labels, missing, result)
    return result


def _neediest(counts: np.ndarray, missing: np.ndarray, targets: np.ndarray, left: np.ndarray) -> int:
    """The split for a group with ``counts`` images of each class, int [K]; missing, targets: float [K, splits].

    left: how many groups and single images of each class have no split yet, this one among them, int [K].
    """
    empty = (missing == targets) & (targets > 0)
    forced = empty & ((counts > 0) & (left <= empty.sum(axis=1)))[:, None]
    asked = forced.any(axis=0) if forced.any() else np.ones(SPLIT_COUNT, bool)
    return int(np.where(asked, counts @ missing, -np.inf).argmax())


def _assign_singles(alone: np.ndarray, labels: np.ndarray, missing: np.ndarray, result: np.ndarray) -> None:
    """Give each image of ``alone``, in order, to the split that its class misses most. Changes ``result``."""
    wanted = missing.tolist()  # plain numbers: a million images take a second
    chosen = []
    for label in labels[alone].tolist():
        row = wanted[label]
        split = row.index(max(row))
        row[split] -= 1
        chosen.append(split)
    result[alone] = chosen


def _by_size(groups: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The images that are alone, in order, and the members of each larger group, the largest first.

    Single images come last because they can still even out what groups have upset.
    """
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    single = sizes[inverse] == 1
    alone = np.flatnonzero(single)
    alone = alone[np.argsort(order[alone], kind="stable")]
    rest = np.flatnonzero(~single)
    rest = rest[np.lexsort((order[rest], inverse[rest]))]
    members = np.split(rest, np.flatnonzero(np.diff(inverse[rest])) + 1) if len(rest) else []
    return alone, sorted(members, key=lambda group: (-len(group), int(order[group[0]])))


def even_parts(count: int, parts: int) -> np.ndarray:
    """Borders that cut ``count`` records into ``parts`` runs whose lengths differ by at most one: int64 [parts + 1]."""
    return np.arange(parts + 1, dtype=np.int64) * count // parts


def shard_counts(counts: list[int], sizes: list[int], wanted: int | None, target_bytes: float) -> list[int]:
    """How many shards each split gets: by size, the train split as many as ``wanted`` if set; no shard is empty.

    counts: records, sizes: bytes per split. The number of ranks plays no part: a rank reads whole shards, or a run of
    records that begins inside one (``training/sharding.py``), so one data set serves any number of ranks. What a run
    costs is at most one shard that is read for the part of another rank, well under a second for 64 MB. Small splits
    are therefore one file.
    """
    shards = [max(1, round(size / target_bytes)) for size in sizes]
    shards[0] = wanted or shards[0]
    return [max(1, min(number, count)) for number, count in zip(shards, counts, strict=True)]


def fills_every_split(count: int, fractions: list[float]) -> bool:
    """Whether ``count`` images of a class, none like another, give each split with a fraction above 0 at least one."""
    wanted = np.array([count * fraction for fraction in fractions])
    chosen = set()
    for _ in range(count):
        split = int(wanted.argmax())
        wanted[split] -= 1
        chosen.add(split)
        if len(chosen) == sum(fraction > 0 for fraction in fractions):
            return True
    return False


def least_images(fractions: list[float]) -> int:
    """The smallest number of images of a class that gives every split one."""
    smallest = min(fraction for fraction in fractions if fraction > 0)
    # A split that is left without an image misses at most 2/3 of one in the end, so more than this is always enough.
    least = int(2 / (3 * smallest)) + 1
    while least > 1 and fills_every_split(least - 1, fractions):
        least -= 1
    return least
