"""Prepared pixels: equal bit for bit in the exported graph, close to Pillow's, and free of aliasing."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import functools
import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from distributed_cls.images import graph, pixels
from distributed_cls.images.decode import Prepared, Spec, prepare_image

from ..dataset.support import encoded, exif, grey_png, noise, photo, psnr

KINDS: dict[str, Callable[[np.random.Generator, int, int], bytes]] = {
    "jpeg": lambda r, w, h: encoded(
        noise(r, w, h),
        "JPEG",
        quality=int(r.integers(30, 100)),
        subsampling=int(r.integers(0, 3)),
        progressive=bool(r.random() < 0.3),
    ),
    "jpeg, turned": lambda r, w, h: encoded(noise(r, w, h), "JPEG", exif=exif(int(r.integers(1, 9)))),
    "jpeg, odd orientation": lambda r, w, h: encoded(noise(r, w, h), "JPEG", exif=exif(9)),
    "jpeg, grey": lambda r, w, h: encoded(noise(r, w, h, 1)[..., 0], "JPEG"),
    "jpeg, four inks": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h)).convert("CMYK"), "JPEG"),
    "png": lambda r, w, h: encoded(noise(r, w, h), "PNG"),
    "png, turned": lambda r, w, h: encoded(noise(r, w, h), "PNG", exif=exif(int(r.integers(1, 9)))),
    "png, grey": lambda r, w, h: encoded(noise(r, w, h, 1)[..., 0], "PNG"),
    "png, 1 bit": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h)).convert("1"), "PNG"),
    "png, 2 bits": lambda r, w, h: grey_png(r.integers(0, 4, (h, w)), 2),
    "png, 4 bits": lambda r, w, h: grey_png(r.integers(0, 16, (h, w)), 4),
    "png, 1 bit and key": lambda r, w, h: grey_png(r.integers(0, 2, (h, w)), 1, transparent=1),
    "png, palette": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h)).convert("P"), "PNG"),
    "png, palette and key": lambda r, w, h: encoded(
        Image.fromarray(noise(r, w, h)).convert("P"), "PNG", transparency=3
    ),
    "png, grey and key": lambda r, w, h: encoded(noise(r, w, h, 1)[..., 0], "PNG", transparency=100),
    "png, grey and alpha": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h, 4), "RGBA").convert("LA"), "PNG"),
    "png, alpha": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h, 4), "RGBA"), "PNG"),
    "png, 16 bits": lambda r, w, h: encoded(r.integers(0, 65536, (h, w), dtype=np.uint16), "PNG"),
    "png, 16 bits colour": lambda r, w, h: cv2.imencode(".png", r.integers(0, 65536, (h, w, 3), dtype=np.uint16))[
        1
    ].tobytes(),
    "gif": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h)).convert("P"), "GIF"),
    "bmp": lambda r, w, h: encoded(noise(r, w, h), "BMP"),
    "webp": lambda r, w, h: encoded(noise(r, w, h), "WEBP", quality=70),
    "webp, alpha": lambda r, w, h: encoded(Image.fromarray(noise(r, w, h, 4), "RGBA"), "WEBP", lossless=True),
}


@functools.cache
def graph_of(size: int, mode: str) -> Callable[[tf.Tensor], tf.Tensor]:
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda data: graph.decode_images(data, size, mode), input_signature=signature)


def prepared(data: bytes, size: int, mode: str = "stretch") -> np.ndarray:
    outcome = prepare_image(data, Spec(size, mode))
    assert isinstance(outcome, Prepared), outcome
    return outcome.rgb


def test_every_colour_has_the_brightness_that_pillow_gives_it_and_the_graph_agrees() -> None:
    levels = np.unique(np.concatenate([np.arange(0, 256, 5), [1, 127, 128, 254]])).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    ours = pixels.luma(colours)
    np.testing.assert_array_equal(ours, np.asarray(Image.fromarray(colours).convert("L")))
    np.testing.assert_array_equal(graph.with_channels(tf.constant(colours), 1)[..., 0], ours)
    assert np.abs(ours.astype(int) - cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)).max() <= 1
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels.luma(grey), grey[..., 0])
    assert pixels.is_grey(grey) and not pixels.is_grey(colours)


def test_a_photo_for_a_grey_model_is_the_same_in_the_graph() -> None:
    random = np.random.default_rng(7)
    for kind, mode in (("JPEG", "stretch"), ("PNG", "crop"), ("WEBP", "pad")):
        data = encoded(noise(random, 90, 61), kind)
        outcome = prepare_image(data, Spec(28, mode))
        assert isinstance(outcome, Prepared)
        found = graph.decode_images(tf.constant([data]), 28, mode, channels=1)[0]
        np.testing.assert_array_equal(found, pixels.with_channels(outcome.rgb, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_preparation_give_the_same_bits(kind: str) -> None:
    random = np.random.default_rng(len(kind))
    for size, mode in ((32, "stretch"), (28, "crop"), (45, "pad")):
        images = [KINDS[kind](random, *(int(edge) for edge in random.integers(8, 420, 2))) for _ in range(4)]
        expected = np.stack([prepared(data, size, mode) for data in images])
        np.testing.assert_array_equal(graph_of(size, mode)(tf.constant(images)).numpy(), expected, f"{kind} {mode}")


def test_every_reduction_factor_is_reached_and_equal() -> None:
    images, factors = [], set()
    for width, height in ((64, 48), (130, 100), (320, 240), (640, 480), (641, 479), (333, 500), (1024, 768)):
        factors.add(pixels.reduction(width, height, 32))
        images.append(encoded(photo(width, height), "JPEG", quality=85))
    assert factors == {1, 2, 4, 8}
    expected = np.stack([prepared(data, 32) for data in images])
    np.testing.assert_array_equal(graph_of(32, "stretch")(tf.constant(images)).numpy(), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(9))
def test_orientation_is_read_alike_by_pillow_the_graph_and_preparation(orientation: int, order: str) -> None:
    block = exif(orientation)
    block.endian = order
    data = encoded(photo(96, 64), "JPEG", quality=95, exif=block)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    assert psnr(prepared(data, 32), np.asarray(upright)) > 35
    np.testing.assert_array_equal(graph_of(32, "stretch")(tf.constant([data])).numpy()[0], prepared(data, 32))


def test_damaged_exif_is_no_orientation_in_either() -> None:
    data = bytearray(encoded(photo(40, 30), "JPEG", exif=exif(6)))
    start = data.index(b"Exif\0\0") + 6
    random = np.random.default_rng(0)
    damaged = []
    for _ in range(60):
        copy = bytearray(data)
        copy[start + int(random.integers(0, 40))] = int(random.integers(0, 256))
        damaged.append(bytes(copy))
    expected = np.stack([prepared(copy, 32) for copy in damaged])
    np.testing.assert_array_equal(graph_of(32, "stretch")(tf.constant(damaged)).numpy(), expected)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (800, 600), (640, 480), (460, 300), (300, 300), (250, 230)])
def test_pixels_are_those_of_pillow_to_44_db(width: int, height: int) -> None:
    data = encoded(photo(width, height, seed=width), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        reference = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    assert psnr(prepared(data, 224), reference) >= 44


@pytest.mark.parametrize("length", [300, 330, 420, 447, 449, 500, 560, 671, 900, 1500])
def test_a_fine_grating_does_not_alias(length: int) -> None:
    """Stripes too fine for the target must fade to grey, where plain bilinear makes coarse stripes of them."""
    fine = [period for period in (2.0, 2.2, 2.5, 3.1) if period * 224 / length < 1.5]  # in pixels of the target
    assert fine
    for period in fine:
        wave = np.rint(127.5 + 127 * np.sin(2 * np.pi * np.arange(length) / period)).astype(np.uint8)
        grating = np.repeat(np.repeat(wave[None, :, None], length, 0), 3, 2)
        ours = pixels.to_square(grating, 224).astype(float).std()
        plain = cv2.resize(grating, (224, 224), interpolation=cv2.INTER_LINEAR).astype(float).std()
        assert ours <= max((0.25 if length >= 448 else 0.5) * plain, 6), (length, period, ours, plain)


def test_crop_takes_the_middle_and_pad_adds_white() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, 25:75] = 200
    assert (pixels.to_square(image, 50, "crop") == 200).all()
    padded = pixels.to_square(image, 50, "pad")
    assert (padded[:12] == 255).all() and (padded[-12:] == 255).all() and (padded[20, :10] == 0).all()


@pytest.mark.parametrize("size", [32, 64, 224])
def test_lossless_pictures_of_any_size_are_those_of_pillow(size: int) -> None:
    for width, height in ((1500, 1000), (700, 900), (301, 217)):
        image = photo(width, height, seed=width, softness=0.7)
        reference = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        assert psnr(pixels.to_square(image, size), np.asarray(reference)) >= 43


def test_flat_colour_stays_and_halving_is_a_mean() -> None:
    for edge in (10, 31, 32, 33, 64, 100, 777):
        assert (pixels.to_square(np.full((edge, edge, 3), 201, np.uint8), 32) == 201).all()
    image = np.random.default_rng(0).integers(0, 256, (63, 63, 3), dtype=np.uint8)
    upscaled = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR_EXACT)
    means = upscaled.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(pixels.to_square(image, 32) - means).max() <= 0.5
