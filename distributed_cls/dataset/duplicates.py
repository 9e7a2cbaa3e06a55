"""Near duplicates: pictures whose perceptual hashes differ in a few bits, found without comparing all pairs.

The hash is the sign pattern of the 16 x 16 lowest frequencies of the grey picture (256 bits, after Zauner 2010, with a
longer hash so that small pictures of the same kind, such as digits, stay apart). Copies that were compressed again,
scaled or brightened differ in up to about 8 bits, unrelated pictures in about 128.

Search: two hashes that differ in at most d bits agree on at least one of d + 1 bands of bits (pigeonhole), so only
pictures that share a band are compared; each band can be searched on its own, on any machine.
"""

import itertools

import cv2
import numpy as np

HASH_BITS = 256
_GRID = 32
_LOWEST = 16
_BITS_IN_BYTE = np.array([bin(value).count("1") for value in range(256)], np.uint8)
_BRUTE_FORCE_LIMIT = 32  # up to so many images that share a band are all compared with each other
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


def bands(distance: int) -> list[tuple[int, int]]:
    """Bit ranges that cover a hash, one more than ``distance``, of about equal length."""
    borders = np.linspace(0, HASH_BITS, distance + 2).round().astype(int).tolist()
    return list(itertools.pairwise(borders))


def _band_values(hashes: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The bits start..stop-1 of each hash as one number (of at most 64 bits, else folded): uint64 [n]."""
    first = start // 8
    bits = np.unpackbits(hashes[:, first : -(-stop // 8)], axis=1)[:, start - 8 * first : stop - 8 * first]
    values = np.zeros(len(hashes), np.uint64)
    for column in range(bits.shape[1]):
        values = values * np.uint64(2) + bits[:, column]  # beyond 64 bits the first fall out; the others still agree
    return values


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bits in which hashes differ, int [n]; each side uint64 [words, n], or one hash [words, 1]."""
    different = one ^ other
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(different).sum(axis=0, dtype=np.int32))
    octets = np.ascontiguousarray(different).view(np.uint8).reshape(*different.shape, 8)  # NumPy before 2
    return np.asarray(_BITS_IN_BYTE[octets].sum(axis=(0, 2), dtype=np.int32))


def band_pairs(hashes: np.ndarray, start: int, stop: int, distance: int) -> np.ndarray:
    """Pairs of rows that agree on a band and differ in at most ``distance`` bits: int64 [pairs, 2].

    hashes: uint8 [n, 32], all different. Of a band's value that more than _BRUTE_FORCE_LIMIT rows share, only the
    edges of a spanning forest of the same connected components are given, at most one per row: all pairs of 10,000
    alike would fill the memory.
    """
    values = _band_values(hashes, start, stop)
    order = np.argsort(values, kind="stable")
    values = values[order]
    words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64)[order].T)
    borders = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(order)]])
    found = []
    for run in np.flatnonzero(np.diff(borders) > _BRUTE_FORCE_LIMIT).tolist():
        first, last = int(borders[run]), int(borders[run + 1])
        found.append(first + _spanning_edges(words[:, first:last], distance))
    # The others all at once: each row is compared with the next one, the one after that, while the band agrees.
    at = np.flatnonzero(np.repeat(np.diff(borders) <= _BRUTE_FORCE_LIMIT, np.diff(borders)))
    for shift in range(1, _BRUTE_FORCE_LIMIT):
        at = at[at < len(order) - shift]
        at = at[values[at] == values[at + shift]]
        near = at[_distance(words[:, at], words[:, at + shift]) <= distance]
        found.append(np.stack([near, near + shift], axis=1))
    return np.asarray(order[np.concatenate(found)])


def _spanning_edges(words: np.ndarray, distance: int) -> np.ndarray:
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
        near = _distance(rest, words[:, node : node + 1]) <= distance
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
