"""Split, shard and near-duplicate arithmetic: pure functions, no Spark."""

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_cls.dataset import duplicates, split
from distributed_cls.dataset.sources import fashion_mnist

from .support import photo

FRACTIONS = [0.7, 0.15, 0.15]


def random_order(count: int, seed: int = 0) -> np.ndarray:
    keys = np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)
    return split.hash_order(keys, "salt")


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6), train=st.floats(0.2, 0.9), seed=st.integers(0, 99))
def test_fractions_hold_within_one_image_per_class(sizes: list[int], train: float, seed: int) -> None:
    fractions = [train, (1 - train) * 0.6, (1 - train) * 0.4]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    result = split.assign(labels, np.arange(len(labels)), random_order(len(labels), seed), fractions)
    for label, size in enumerate(sizes):
        counts = np.bincount(result[labels == label], minlength=3)
        assert counts.sum() == size
        assert (np.abs(counts - np.array(fractions) * size) < 1 + 1e-9).all()


def test_groups_stay_together_and_fractions_hold_within_a_group() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 900)
    groups = np.where(random.random(900) < 0.3, labels * 1000 + random.integers(0, 40, 900), 10_000 + np.arange(900))
    result = split.assign(labels, groups, random_order(900), FRACTIONS)
    for number in np.unique(groups):
        assert len(set(result[groups == number])) == 1
    largest = np.bincount(np.unique(groups, return_inverse=True)[1]).max()
    for label in range(3):
        counts = np.bincount(result[labels == label], minlength=3)
        assert (np.abs(counts - np.array(FRACTIONS) * counts.sum()) <= largest).all()


def test_earlier_images_stay_and_new_ones_fill_up() -> None:
    labels = np.repeat([0, 1], 200)
    order = random_order(400)
    first = np.arange(400) % 200 < 100
    before = split.assign(labels[first], np.arange(200), order[first], FRACTIONS)
    earlier = np.full(400, -1, np.int8)
    earlier[first] = before
    after = split.assign(labels, np.arange(400), order, FRACTIONS, earlier)
    np.testing.assert_array_equal(after[first], before)
    for label in (0, 1):
        counts = np.bincount(after[labels == label], minlength=3)
        assert (np.abs(counts - np.array(FRACTIONS) * 200) < 1).all()


def test_another_salt_is_another_split() -> None:
    keys = np.random.default_rng(0).integers(0, 256, (500, 16), dtype=np.uint8)
    labels = np.zeros(500, int)
    one, other = (split.assign(labels, np.arange(500), split.hash_order(keys, s), FRACTIONS) for s in ("a", "b"))
    assert 0.3 < (one != other).mean() < 0.6
    again = split.assign(labels, np.arange(500), split.hash_order(keys, "a"), FRACTIONS)
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(("count", "parts"), [(10, 3), (7, 7), (1000, 12), (3, 2), (0, 1)])
def test_even_parts(count: int, parts: int) -> None:
    lengths = np.diff(split.even_parts(count, parts))
    assert lengths.sum() == count and lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize(
    ("counts", "sizes", "wanted", "expected"),
    [
        ([100, 20, 20], [8_400, 900, 2_600], None, [8, 1, 3]),
        ([100, 20, 20], [10, 10, 10], None, [1, 1, 1]),
        ([100, 20, 20], [8_400, 900, 900], 5, [5, 1, 1]),
        ([28, 6, 6], [100, 100, 100], 64, [28, 1, 1]),
        ([3, 1, 1], [9_000, 9_000, 9_000], None, [3, 1, 1]),
    ],
)
def test_shard_counts(counts: list[int], sizes: list[int], wanted: int | None, expected: list[int]) -> None:
    assert split.shard_counts(counts, sizes, wanted, 1000) == expected


@pytest.mark.parametrize("fractions", [[0.7, 0.15, 0.15], [0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.8, 0.2, 0.0], [1, 0, 0]])
def test_the_fewest_images_that_fill_every_split_are_those_of_the_split_itself(fractions: list[float]) -> None:
    def filled(count: int) -> bool:
        chosen = split.assign(np.zeros(count, int), np.arange(count), random_order(count), fractions)
        return set(chosen.tolist()) == {number for number, part in enumerate(fractions) if part > 0}

    for count in range(1, 25):
        assert split.fills_every_split(count, fractions) == filled(count)
    least = split.least_images(fractions)
    assert filled(least) and not filled(least - 1)


def test_hash_of_copies_is_near_and_of_others_far() -> None:
    hashes = []
    for seed in range(12):
        picture = photo(200, 150, seed)
        copies = [picture, (picture * 0.9 + 10).astype(np.uint8)]
        hashes.append([duplicates.perceptual_hash(copy) for copy in copies])
    bits = np.unpackbits(np.array([[list(h) for h in pair if h] for pair in hashes], np.uint8), axis=-1)
    distances = (bits[:, None, :, None] != bits[None, :, None, :]).sum(-1)
    for one, other in itertools.product(range(12), repeat=2):
        if one == other:
            assert distances[one, one].max() <= 12
        else:
            assert distances[one, other].min() > 60


def test_flat_pictures_have_no_hash() -> None:
    assert duplicates.perceptual_hash(np.full((32, 32, 3), 77, np.uint8)) is None


@pytest.mark.parametrize("distance", [0, 3, 12])
def test_bands_find_every_near_pair_and_no_other(distance: int) -> None:
    random = np.random.default_rng(distance)
    hashes = random.integers(0, 256, (300, 32), dtype=np.uint8)
    bits = np.unpackbits(hashes, axis=1)
    for row in range(1, 300, 2):  # every second one is a copy of the one before, with up to 2 * distance bits changed
        bits[row] = bits[row - 1]
        bits[row, random.choice(256, random.integers(1, 2 * distance + 2), replace=False)] ^= 1
    hashes = np.packbits(bits, axis=1)
    near = (bits[:, None] != bits[None]).sum(-1) <= distance
    expected = {(a, b) for a, b in zip(*np.nonzero(near), strict=True) if a < b}
    found = [duplicates.band_pairs(hashes, band, distance) for band in duplicates.bands(distance)]
    assert {tuple(sorted(pair)) for pair in np.concatenate(found).tolist()} == expected
    assert sorted(itertools.chain(*duplicates.bands(distance))) == list(range(duplicates.HASH_BITS))


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], 0),
    "scaled": lambda image: cv2.resize(cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA), (28, 28)),
    "brightened": lambda image: np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1].copy(),
}


@pytest.mark.skipif(not Path(fashion_mnist.SYSTEM_FOLDER).is_dir(), reason="dataset-fashion-mnist is not installed")
def test_copies_of_real_small_pictures_are_found_and_hardly_any_other_pair() -> None:
    files = fashion_mnist.read_files(fashion_mnist.SYSTEM_FOLDER)
    images = fashion_mnist.idx(files["train-images-idx3-ubyte"])[:4000]
    labels = fashion_mnist.idx(files["train-labels-idx1-ubyte"])[:4000].astype(np.int64)
    copies = np.concatenate([[change(image) for image in images[:50]] for change in KINDS.values()])
    every = [cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) for image in [*images, *copies]]
    hashes, rows = duplicates.unique_hashes([duplicates.perceptual_hash(image) for image in every])
    of_hash = np.zeros(len(hashes), np.int64)
    of_hash[rows] = np.concatenate([labels, np.tile(labels[:50], len(KINDS))])
    pairs = np.concatenate([duplicates.band_pairs(hashes, band, 24, of_hash) for band in duplicates.bands(24)])
    groups = duplicates.group(rows, pairs)
    recall = (groups[4000:].reshape(len(KINDS), 50) == groups[:50]).mean(axis=1)
    assert recall.min() >= 0.9, dict(zip(KINDS, recall.tolist(), strict=True))
    alone = np.unique(groups[:4000], return_counts=True)[1]
    assert (alone > 1).sum() <= 8, "among eight million pairs"


def test_mirrored_copies_are_found_within_their_class_only() -> None:
    pictures = [photo(120, 90, seed) for seed in range(6)]
    pictures += [picture[:, ::-1].copy() for picture in pictures]
    hashes, rows = duplicates.unique_hashes([duplicates.perceptual_hash(picture) for picture in pictures])
    for labels, expected in (([0] * 12, 6), ([0] * 6 + [1] * 6, 12), ([0, 1, 2] * 4, 6)):
        of_hash = np.zeros(len(hashes), np.int64)
        of_hash[rows] = labels
        pairs = np.concatenate([duplicates.band_pairs(hashes, band, 24, of_hash) for band in duplicates.bands(24)])
        assert len(set(duplicates.group(rows, pairs).tolist())) == expected


def near_copies(count: int, flips: int, random: np.random.Generator) -> np.ndarray:
    """``count`` different hashes, each of them one hash with up to ``flips`` bits changed."""
    bits = np.tile(random.integers(0, 2, 256, dtype=np.uint8), (count, 1))
    for row in bits:
        row[random.choice(256, random.integers(0, flips + 1), replace=False)] ^= 1
    return np.unique(np.packbits(bits, axis=1), axis=0)


def test_groups_of_a_crowd_are_those_of_all_pairs() -> None:
    """Many hashes that share bands, near each other and not: grouped as by comparing every pair."""
    random = np.random.default_rng(5)
    crowd = np.concatenate([near_copies(200, 30, random), near_copies(200, 5, random)])
    band = list(duplicates.bands(12)[3])
    bits = np.unpackbits(crowd, axis=1)
    bits[:, band] = bits[0, band]
    hashes = random.permutation(np.unique(np.packbits(bits, axis=1), axis=0))
    bits = np.unpackbits(hashes, axis=1)
    near = (bits[:, None] != bits[None]).sum(-1) <= 12
    expected = duplicates.components(len(hashes), np.argwhere(near))
    found = [duplicates.band_pairs(hashes, band, 12) for band in duplicates.bands(12)]
    np.testing.assert_array_equal(duplicates.components(len(hashes), np.concatenate(found)), expected)
    assert 5 < len(set(expected.tolist())) < len(hashes) - 100, "some are connected, some are not"
    assert all(near[a, b] for a, b in np.concatenate(found).tolist())


def test_many_copies_give_no_more_pairs_than_copies() -> None:
    hashes = near_copies(4000, 4, np.random.default_rng(6))
    for band in duplicates.bands(12):
        assert len(duplicates.band_pairs(hashes, band, 12)) < 16 * len(hashes)


def test_distances_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(7).integers(0, 2**63, (4, 50)).astype(np.uint64)
    expected = [sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(row, words[:, 0], strict=True)) for row in words.T]
    assert duplicates._distance(words, words[:, :1]).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert duplicates._distance(words, words[:, :1]).tolist() == expected


def test_components_are_connected() -> None:
    roots = duplicates.components(7, np.array([[1, 2], [5, 2], [3, 4]]))
    assert roots.tolist() == [0, 1, 1, 3, 3, 1, 6]


def test_pictures_without_a_hash_are_alone() -> None:
    one = bytes(32)
    different, rows = duplicates.unique_hashes([None, one, None, one])
    assert len(different) == 1
    groups = duplicates.group(rows, np.empty((0, 2), np.int64))
    assert groups[1] == groups[3] and len(set(groups.tolist())) == 3
