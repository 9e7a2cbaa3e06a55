"""Near duplicates: pictures whose perceptual hashes differ in a few bits, found without comparing all pairs.

The hash is the sign pattern of the 16 x 16 lowest frequencies of the grey picture (256 bits, after Zauner 2010, with a
longer hash so that small pictures of the same kind, such as digits, stay apart). Copies that were compressed again,
scaled or brightened differ in up to about 24 bits, unrelated pictures in about 128. In a mirrored copy the odd
horizontal frequencies change their sign, so its hash follows from that of the original.

Search: only pictures that agree on a band of bits are compared; each band can be searched on its own, on any machine.
Two hashes that differ in at most 12 bits agree on at least one of 13 bands (pigeonhole); those of copies that differ in
up to 24 nearly always do. A band takes every 13th bit: neighbouring frequencies go together, and bits that were next to
each other would be the same in too many pictures.
"""

import cv2
import numpy as np

HASH_BITS = 256
BANDS = 13
_GRID = 32
_LOWEST = 16
_BITS_IN_BYTE = np.array([bin(value).count("1") for value in range(256)], np.uint8)
_BRUTE_FORCE_LIMIT = 32  # up to so many images that share a band are all compared with each other
_MIRRORED = np.packbits(np.arange(HASH_BITS) % 2 == 1)  # the odd horizontal frequencies
_FLAT = 2.0  # standard deviation of grey levels below which a picture has no pattern that could be recognised


def perceptual_hash(rgb: np.ndarray) -> bytes | None:
    """The hash of a uint8 picture [H, W, 3] in 32 bytes; None for a flat picture, which resembles every other one."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    grid = cv2.resize(grey, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    if grid.std() < _FLAT:
        return None
    lowest = cv2.dct(grid)[:_LOWEST, :_LOWEST].ravel()
    lowest[0] = 0  # the mean brightness
    return np.packbits(lowest > np.median(lowest)).tobytes()


def bands(distance: int) -> list[range]:
    """The bits of each band: together all bits of a hash. More bands than needed for ``distance`` only cost time."""
    count = min(distance + 1, BANDS)
    return [range(first, HASH_BITS, count) for first in range(count)]


def _band_values(hashes: np.ndarray, band: range) -> np.ndarray:
    """The bits ``band`` of each hash as one number (of at most 64 bits, else folded): uint64 [n]."""
    values = np.zeros(len(hashes), np.uint64)
    for bit in band:
        # Beyond 64 bits the first fall out; the others still agree.
        values = values << np.uint64(1) | (hashes[:, bit // 8] >> np.uint8(7 - bit % 8) & 1)
    return values


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bits in which hashes differ, int [n]; each side uint64 [words, n], or one hash [words, 1]."""
    different = one ^ other
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(different).sum(axis=0, dtype=np.int32))
    octets = np.ascontiguousarray(different).view(np.uint8).reshape(*different.shape, 8)  # NumPy before 2
    return np.asarray(_BITS_IN_BYTE[octets].sum(axis=(0, 2), dtype=np.int32))


def _near(one: np.ndarray, other: np.ndarray, same: np.ndarray | None, distance: int) -> np.ndarray:
    """Whether hashes differ in at most ``distance`` bits, bool [n]; where ``same``, a mirror may be between them.

    Each side uint64 [words, n], or one hash [words, 1]. same: bool [n]; None without mirrors.
    """
    near = _distance(one, other) <= distance
    if same is not None:
        at = np.flatnonzero(same & ~near)
        mirrored = one[:, at] ^ _MIRRORED.view(np.uint64)[:, None]
        near[at] = _distance(mirrored, other if other.shape[1] == 1 else other[:, at]) <= distance
    return near


def band_pairs(hashes: np.ndarray, band: range, distance: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Pairs of rows that agree on a band and differ in at most ``distance`` bits: int64 [pairs, 2].

    hashes: uint8 [n, 32], all different. labels: int [n]: with them, pairs of one label that do so in a mirror as well;
    pictures of two classes may differ in nothing else (arrows, letters). Of a band's value that more than
    _BRUTE_FORCE_LIMIT rows share, only the edges of a spanning forest of the same connected components are given, at
    most one per row: all pairs of 10,000 alike would fill the memory.
    """
    values = _band_values(hashes, band)
    if labels is not None:  # one value for a hash and for its mirror image
        values = np.minimum(values, values ^ _band_values(_MIRRORED[None], band))
    order = np.argsort(values, kind="stable")
    values = values[order]
    words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64)[order].T)
    classes = None if labels is None else labels[order]
    borders = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(order)]])
    found = []
    for run in np.flatnonzero(np.diff(borders) > _BRUTE_FORCE_LIMIT).tolist():
        here = slice(int(borders[run]), int(borders[run + 1]))
        inside = None if classes is None else classes[here]
        found.append(here.start + _spanning_edges(words[:, here], inside, distance))
    # The others all at once: each row is compared with the next one, the one after that, while the band agrees.
    at = np.flatnonzero(np.repeat(np.diff(borders) <= _BRUTE_FORCE_LIMIT, np.diff(borders)))
    for shift in range(1, _BRUTE_FORCE_LIMIT):
        at = at[at < len(order) - shift]
        at = at[values[at] == values[at + shift]]
        same = None if classes is None else classes[at] == classes[at + shift]
        near = at[_near(words[:, at], words[:, at + shift], same, distance)]
        found.append(np.stack([near, near + shift], axis=1))
    return np.asarray(order[np.concatenate(found)])


def _spanning_edges(words: np.ndarray, labels: np.ndarray | None, distance: int) -> np.ndarray:
    """The edges of a spanning forest of all pairs within ``distance``, int64 [edges, 2].

    words: uint64 [words, n]. A search that goes from each hash to those near it that were not reached before, so many
    alike are few comparisons; n that are not alike are n * n / 2, about 10 s for 50,000, in memory for n.
    """
    waiting, rest = np.arange(1, words.shape[1]), words[:, 1:]
    reached, edges = [0], []
    while len(waiting):
        if not reached:
            reached.append(int(waiting[0]))
            waiting, rest = waiting[1:], rest[:, 1:]
        node = reached.pop()
        same = None if labels is None else labels[waiting] == labels[node]
        near = _near(rest, words[:, node : node + 1], same, distance)
        if near.any():
            new = waiting[near]
            edges.append(np.stack([np.full(len(new), node), new], axis=1))
            reached += new.tolist()
            waiting, rest = waiting[~near], rest[:, ~near]
    return np.concatenate(edges) if edges else np.empty((0, 2), np.int64)


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """The connected component of each of ``count`` nodes under ``pairs``, as its smallest member: int64 [count]."""
    # Half a second of imports, which only the driver needs, and only when it has decoded something.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.empty(0, np.int64)
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(edges, directed=False)[1]
    return np.asarray(np.unique(labels, return_index=True)[1][labels], np.int64)


def unique_hashes(hashes: list[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
    """The different hashes, uint8 [m, 32], and the row of each image's hash in them, int64 [n] (-1 without a hash)."""
    present = np.array([value is not None for value in hashes], bool)
    flat = np.frombuffer(b"".join(value for value in hashes if value is not None), f"V{HASH_BITS // 8}")
    different, inverse = np.unique(flat, return_inverse=True)
    rows = np.full(len(hashes), -1, np.int64)
    rows[present] = inverse.ravel()
    return different.view(np.uint8).reshape(-1, HASH_BITS // 8), rows


def group(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A group number for each image, int64 [n]: equal for images whose hashes (``rows``) ``pairs`` connect.

    Images without a hash are alone.
    """
    hashes = int(rows.max(initial=-1)) + 1
    roots = components(hashes, pairs)
    alone = hashes + np.arange(len(rows))
    return np.where(rows >= 0, roots[rows] if hashes else alone, alone)
