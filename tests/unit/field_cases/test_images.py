"""Image files of cameras, phones, browsers and failed downloads: what is kept is what Pillow alone makes of them."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from distributed_cls.images import pixels
from distributed_cls.images.decode import Prepared, Reject, Spec, prepare_image

from ..dataset.support import encoded, exif, grey_png, photo, png_chunk, psnr

PICTURE = photo(96, 72, seed=3)
IMAGE = Image.fromarray(PICTURE)
GREY = IMAGE.convert("L")
FRAMES = [Image.fromarray(photo(96, 72, seed=seed)) for seed in (3, 4, 5)]
PALETTE = IMAGE.quantize(16)
JPEG = encoded(PICTURE, "JPEG", quality=95)
PNG = encoded(PICTURE, "PNG")
WEBP = encoded(PICTURE, "WEBP", lossless=True)
LOSSY = 40.0  # dB that a decoder at a fraction of the size may differ by


def prepared(data: bytes, **settings: Any) -> Prepared | Reject:
    return prepare_image(data, Spec(32, **settings))


def pillows(data: bytes) -> np.ndarray:
    """The first frame as Pillow alone shows it: upright, transparency over white, uint8 [H, W, 3]."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return np.asarray(white.convert("RGB"))


def ycck() -> bytes:
    """A JPEG of four inks whose first three are luma and chroma, as Photoshop writes it and Pillow does not."""
    inks = np.dstack([np.asarray(IMAGE.convert("YCbCr")), 255 - np.asarray(GREY) // 4])
    data = bytearray(encoded(Image.frombytes("CMYK", IMAGE.size, (255 - inks).astype(np.uint8).tobytes()), "JPEG"))
    adobe = data.index(b"Adobe")
    data[adobe + 11] = 2  # the transform that the pixels have gone through
    return bytes(data)


def sixteen_bits(*channels: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.dstack(channels).astype(np.uint16) * 257)[1].tobytes()


def saved(kind: str, images: list[Image.Image], **options: Any) -> bytes:
    first, *others = [image.copy() for image in images]  # Pillow keeps what it wrote them as
    return encoded(first, kind, save_all=True, append_images=others, **options)


BLUE, GREEN, RED = PICTURE[..., 2], PICTURE[..., 1], PICTURE[..., 0]
# (the file, dB to Pillow's pixels at least)
KEPT: dict[str, tuple[bytes, float]] = {
    "garbage after a JPEG": (JPEG + b"x" * 1000, LOSSY),
    "garbage after a PNG": (PNG + b"x" * 1000, 99),
    "garbage after a WebP": (WEBP + b"x" * 1000, 99),
    "fill bytes in a JPEG": (JPEG[:2] + b"\xff\xff" + JPEG[2:], LOSSY),
    "progressive": (encoded(PICTURE, "JPEG", quality=95, progressive=True), LOSSY),
    "restart markers": (encoded(PICTURE, "JPEG", quality=95, restart_marker_rows=1), LOSSY),
    "a JPEG of RGB": (encoded(PICTURE, "JPEG", quality=95, keep_rgb=True), LOSSY),
    "4:1:1": (encoded(PICTURE, "JPEG", quality=95, subsampling="4:1:1"), LOSSY),
    "odd edges with 4:2:0": (encoded(photo(95, 71), "JPEG", quality=95, subsampling=2), LOSSY),
    "CMYK": (encoded(IMAGE.convert("CMYK"), "JPEG", quality=95), LOSSY),
    "YCCK": (ycck(), LOSSY),
    "two pictures of a phone (MPO)": (saved("MPO", FRAMES, quality=95), LOSSY),
    "16 bits RGB": (sixteen_bits(BLUE, GREEN, RED), 99),
    "16 bits RGBA": (sixteen_bits(BLUE, GREEN, RED, RED), 45),
    "a palette with a transparent colour": (encoded(PALETTE, "PNG", transparency=3), 99),
    "a palette with degrees": (encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))), 45),
    "RGB with a transparent colour": (encoded(PICTURE, "PNG", transparency=tuple(PICTURE[5, 5].tolist())), 99),
    "2 bits with a transparent grey": (grey_png(np.asarray(GREY) >> 6, 2, 1), 99),
    "4 bits grey": (grey_png(np.asarray(GREY) >> 4, 4), 99),
    "grey with transparency": (encoded(Image.merge("LA", [GREY, GREY]), "PNG"), 45),
    "a film as GIF": (saved("GIF", [frame.quantize() for frame in FRAMES]), 99),
    "a film as WebP": (saved("WEBP", FRAMES, lossless=True), 99),
    "a film as PNG": (saved("PNG", FRAMES), 99),
    "a film as PNG with a still": (saved("PNG", FRAMES, default_image=True), 99),
    "pages of a TIFF": (saved("TIFF", FRAMES), 99),
    "a fax": (encoded(IMAGE.convert("1"), "TIFF", compression="group4"), 99),
    "a TIFF with JPEG in it": (encoded(IMAGE, "TIFF", compression="jpeg"), LOSSY),
    "a GIF with a transparent colour": (encoded(IMAGE.quantize(255), "GIF", transparency=2), 99),
    "WebP with transparency": (encoded(Image.merge("RGBA", [*IMAGE.split(), GREY]), "WEBP", lossless=True), 45),
    "black and white BMP": (encoded(IMAGE.convert("1"), "BMP"), 99),
}


@pytest.mark.parametrize(("data", "least"), KEPT.values(), ids=KEPT)
def test_the_pixels_are_those_that_pillow_alone_finds(data: bytes, least: float) -> None:
    outcome = prepared(data)
    assert isinstance(outcome, Prepared), outcome
    assert psnr(outcome.rgb, pixels.to_square(pillows(data), 32)) > least


def test_of_16_bits_grey_the_upper_ones_count() -> None:
    """(Pillow cuts them off at 255 instead.)"""
    outcome = prepared(encoded(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257 + 3), "PNG"))
    assert isinstance(outcome, Prepared)
    expected = pixels.to_square(np.repeat(np.asarray(GREY)[..., None], 3, axis=-1), 32)
    np.testing.assert_array_equal(outcome.rgb, expected)


def orientation_block(order: str, value: int, long: bool = False) -> bytes:
    """Exif with an orientation of 2 bytes, or (as some tools write it) of 4."""
    mark = {"<": b"II", ">": b"MM"}[order]
    head = struct.pack(f"{order}2sHIHHHI", mark, 42, 8, 1, 0x112, 4 if long else 3, 1)
    return head + struct.pack(f"{order}I" if long else f"{order}HH", *([value] if long else [value, 0])) + bytes(4)


@pytest.mark.parametrize("value", [0, 3, 6, 8, 9])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "late PNG", "late JPEG"])
def test_the_orientation_in_either_order_of_bytes(kind: str, order: str, value: int) -> None:
    block = orientation_block(order, value)
    if kind == "late PNG":  # after the pixels
        data = PNG[:-12] + png_chunk(b"eXIf", block) + PNG[-12:]
    elif kind == "late JPEG":  # after a colour profile of the largest size
        profile = b"\xff\xe2\xff\xff" + bytes(65533)
        data = JPEG[:2] + profile + encoded(PICTURE, "JPEG", quality=95, exif=b"Exif\0\0" + block)[2:]
    else:
        block = block if kind == "PNG" else b"Exif\0\0" + block
        data = encoded(PICTURE, kind, exif=block, **({"quality": 95} if kind == "JPEG" else {"lossless": True}))
    outcome = prepared(data)
    assert isinstance(outcome, Prepared)
    assert psnr(outcome.rgb, pixels.to_square(pillows(data), 32)) > LOSSY - 2


@pytest.mark.parametrize("value", [0, 6, 8, 2**16 + 6])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_four_bytes(order: str, value: int) -> None:
    data = encoded(PICTURE, "JPEG", quality=95, exif=b"Exif\0\0" + orientation_block(order, value, long=True))
    outcome = prepared(data)
    assert isinstance(outcome, Prepared)
    assert psnr(outcome.rgb, pixels.to_square(pillows(data), 32)) > LOSSY - 2


def damaged(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


NO_IMAGE = "not_an_image"
REJECTED: dict[str, tuple[bytes, str, str]] = {
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", NO_IMAGE, "'version https://git-lfs."),
    "a web page": (b"\xef\xbb\xbf<!DOCTYPE html>\n<html>", NO_IMAGE, "'<!DOCTYPE html>'"),
    "an error of an API": (b'{"error":"Not found"}', NO_IMAGE, """'{"error":"Not found"}'"""),
    "SVG": (b'<?xml version="1.0"?>\n<svg/>', NO_IMAGE, """'<?xml version="1.0"?>'"""),
    "PDF": (b"%PDF-1.4\n%\xe2\xe3", NO_IMAGE, "'%PDF-1.4'"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", NO_IMAGE, "'%!PS-Adobe-3.0 EPSF-3.0'"),
    "an answer with its header": (b"HTTP/1.1 200 OK\r\n\r\n" + JPEG, NO_IMAGE, "'HTTP/1.1 200 OK'"),
    "blanks": (b"    ", NO_IMAGE, "20 20 20 20"),
    "Photoshop": (b"8BPS\0\1", NO_IMAGE, "38 42 50 53 00 01"),
    "JPEG XL": (b"\xff\x0a" + bytes(30), NO_IMAGE, "ff 0a 00"),
    "JPEG 2000": (bytes.fromhex("0000000c6a5020200d0a870a"), NO_IMAGE, "00 00 00 0c"),
    "a film": (b"\0\0\0\x18ftypmp42" + bytes(40), NO_IMAGE, "00 00 00 18"),
    "an icon": (b"\0\0\1\0" + bytes(40), NO_IMAGE, "00 00 01 00"),
    "bytes before a JPEG": (b"\n\n" + JPEG, NO_IMAGE, "0a 0a ff d8"),
    "no byte": (b"", "empty", "0 bytes"),
    "a progressive JPEG that is cut": (KEPT["progressive"][0][:3000], "truncated", "no end of image"),
    "a JPEG without its last bytes": (JPEG[:-2], "truncated", "no end of image"),
    "a PNG without its last byte": (PNG[:-1], "truncated", "before its last chunk"),
    "a PNG without its last chunk": (PNG[:-12], "truncated", "before its last chunk"),
    "half a WebP": (WEBP[: len(WEBP) // 2], "truncated", f"{len(WEBP) // 2} bytes of {len(WEBP)}"),
    "a WebP without its last byte": (WEBP[:-1], "truncated", f"{len(WEBP) - 1} bytes of {len(WEBP)}"),
    "a PNG with another checksum": (damaged(PNG, 30), "undecodable", "png: damaged"),
    "a raw file of a camera": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "undecodable", "tiff: its header is damaged, or"),
    "numbers without a range": (
        encoded(Image.fromarray(PICTURE[..., 0].astype(np.float32)), "TIFF"),
        "undecodable",
        "no fixed range",
    ),
    "one column": (encoded(Image.new("RGB", (1, 10_001)), "PNG"), "too_small", "1x10001"),
}


@pytest.mark.parametrize(("data", "reason", "words"), REJECTED.values(), ids=REJECTED)
def test_what_cannot_be_kept_says_what_it_is_the_same_each_time(data: bytes, reason: str, words: str) -> None:
    outcome = prepared(data)
    assert isinstance(outcome, Reject) and outcome.reason == reason
    assert words in outcome.detail and outcome.detail.isprintable()
    assert prepared(data) == outcome


def arithmetic(data: bytes) -> bytes:
    """The same JPEG under the frame header of an arithmetic-coded one, which its bytes then are not."""
    frame = data.index(b"\xff\xc0")
    return data[: frame + 1] + b"\xc9" + data[frame + 2 :]


@pytest.mark.parametrize("data", [arithmetic(JPEG), damaged(PNG, 60), JPEG[: len(JPEG) // 2] + b"\xff\xd9"])
def test_damage_that_decoders_see_differently_is_never_an_error(data: bytes) -> None:
    outcome = prepared(data)
    assert outcome.rgb.shape == (32, 32, 3) if isinstance(outcome, Prepared) else outcome.reason == "undecodable"


LIMITS = [
    *(("max_pixels", 96 * 72, True), ("max_pixels", 96 * 72 - 1, False)),
    *(("min_edge", 72, True), ("min_edge", 73, False)),
    *(("max_bytes", 0, True), ("max_bytes", -1, False)),  # beyond the file's own size
]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize(("name", "limit", "fits"), LIMITS)
def test_a_limit_is_what_still_fits(kind: str, name: str, limit: int, fits: bool) -> None:
    data = encoded(IMAGE, kind)
    outcome = prepared(data, **{name: limit + len(data) if name == "max_bytes" else limit})
    assert isinstance(outcome, Prepared) == fits
    if isinstance(outcome, Reject):
        assert outcome.reason == {"min_edge": "too_small"}.get(name, f"too_many_{name[4:]}")


def test_a_line_of_pixels_is_classified_though_not_trained_on() -> None:
    for size in ((1, 9000), (9000, 1), (1, 1)):
        outcome = prepared(encoded(Image.new("RGB", size, "red"), "PNG"), min_edge=1)
        assert isinstance(outcome, Prepared) and (outcome.rgb == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_grey_palette_and_a_four_ink_picture(orientation: int) -> None:
    for image, kind in ((GREY, "JPEG"), (PALETTE, "PNG"), (IMAGE.convert("CMYK"), "JPEG"), (GREY, "WEBP")):
        options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        data = encoded(image, kind, exif=exif(orientation), **options)
        outcome = prepared(data)
        assert isinstance(outcome, Prepared)
        assert psnr(outcome.rgb, pixels.to_square(pillows(data), 32)) > LOSSY - 2
