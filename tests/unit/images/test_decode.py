"""Every kind of good, odd and damaged file: kept with the right pixels, or rejected with the right reason."""

import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from distributed_cls.images import decode, headers, pixels
from distributed_cls.images.decode import Prepared, Reject, Spec, prepare_image

from ..dataset.support import encoded, exif, photo, png_chunk, psnr

SPEC = Spec(32)
PICTURE = photo(96, 72, seed=3)
FORMATS = {
    "jpeg": encoded(PICTURE, "JPEG", quality=95),
    "png": encoded(PICTURE, "PNG"),
    "webp": encoded(PICTURE, "WEBP", quality=95),
    "bmp": encoded(PICTURE, "BMP"),
    "gif": encoded(Image.fromarray(PICTURE).quantize(256), "GIF"),
    "tiff": encoded(PICTURE, "TIFF"),
}


def pixels_of(data: bytes, spec: Spec = SPEC) -> np.ndarray:
    outcome = prepare_image(data, spec)
    assert isinstance(outcome, Prepared), outcome
    return outcome.rgb


def reason(data: bytes, spec: Spec = SPEC) -> str:
    outcome = prepare_image(data, spec)
    assert isinstance(outcome, Reject), "kept"
    assert outcome.detail
    return outcome.reason


def pillow_square(image: Image.Image, size: int = 32) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("kind", FORMATS)
def test_format_is_told_by_content_and_pixels_are_pillows(kind: str) -> None:
    outcome = prepare_image(FORMATS[kind], SPEC)
    assert isinstance(outcome, Prepared)
    assert (outcome.format, outcome.width, outcome.height) == (kind, 96, 72)
    with Image.open(io.BytesIO(FORMATS[kind])) as image:
        assert psnr(outcome.rgb, pillow_square(image)) > 40


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
def test_truncated(kind: str, share: float) -> None:
    data = FORMATS[kind][: int(len(FORMATS[kind]) * share)]
    assert reason(data) in (decode.TRUNCATED, decode.UNDECODABLE, decode.NOT_AN_IMAGE)
    if 0.3 <= share <= 0.9 and kind != "tiff":  # a TIFF's directory comes last: without it nothing can be said
        assert reason(data) == decode.TRUNCATED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", decode.EMPTY),
        (b"\0", decode.NOT_AN_IMAGE),
        (bytes(5000), decode.NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", decode.NOT_AN_IMAGE),
        (b"%PDF-1.7\n", decode.NOT_AN_IMAGE),
        (b"<html>404</html>", decode.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", decode.TRUNCATED),
        (b"\xff\xd8\xff\xd9", decode.TRUNCATED),
        (b"\x89PNG\r\n\x1a\n", decode.TRUNCATED),
        (b"GIF89a", decode.UNDECODABLE),
        (b"RIFF\x00\x00\x00\x00WEBP", decode.UNDECODABLE),
        (b"BM" + bytes(40), decode.UNDECODABLE),
        (b"II*\x00", decode.UNDECODABLE),
    ],
)
def test_not_quite_images(data: bytes, expected: str) -> None:
    found = reason(data)
    assert found == expected or {found, expected} == {decode.TRUNCATED, decode.UNDECODABLE}


def png_bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")


def jpeg_bomb() -> bytes:
    data = bytearray(FORMATS["jpeg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


def gif_bomb() -> bytes:
    return FORMATS["gif"][:6] + struct.pack("<HH", 65535, 65535) + FORMATS["gif"][10:]


@pytest.mark.parametrize("data", [png_bomb(100_000, 100_000), png_bomb(2**31 - 1, 2**31 - 1), jpeg_bomb(), gif_bomb()])
def test_bombs_are_refused_by_their_header(data: bytes) -> None:
    assert reason(data) == decode.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (7, 100)])
def test_too_small(kind: str, size: tuple[int, int]) -> None:
    assert reason(encoded(Image.new("RGB", size), kind)) == decode.TOO_SMALL


def test_limits_are_settings() -> None:
    assert reason(FORMATS["png"], Spec(32, max_pixels=96 * 72 - 1)) == decode.TOO_MANY_PIXELS
    assert reason(FORMATS["png"], Spec(32, max_bytes=100)) == decode.TOO_MANY_BYTES
    assert reason(FORMATS["png"], Spec(32, min_edge=73)) == decode.TOO_SMALL
    assert pixels_of(encoded(Image.new("RGB", (1, 1), "red"), "PNG"), Spec(8, min_edge=1)).tolist()[0][0] == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes(mode: str) -> None:
    image = Image.fromarray(PICTURE)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        expected = image.point(lambda level: level / 257).convert("L")
    else:
        image = expected = image.convert(mode)
    # Dithered black and white is all fine detail, where a mean of blocks and Pillow's triangle differ.
    assert psnr(pixels_of(encoded(image, "PNG")), pillow_square(expected.convert("RGB"))) > (18 if mode == "1" else 35)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
def test_tiff_modes(mode: str) -> None:
    image = Image.fromarray(PICTURE)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (96, 72), PICTURE.tobytes())
    else:
        image = image.convert(mode)
    outcome = prepare_image(encoded(image, "TIFF"), SPEC)
    assert isinstance(outcome, Prepared) or (mode == "LAB" and outcome.reason == decode.UNDECODABLE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparency_lies_over_white(kind: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 200, 255))
    image.paste((10, 20, 30, 0), (0, 0, 20, 40))
    square = pixels_of(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (square[:, :14] == 255).all()
    np.testing.assert_allclose(square[:, 18:].reshape(-1, 3), [[0, 0, 200]] * (14 * 32), atol=6)


def test_half_transparent_is_half_white() -> None:
    assert (pixels_of(encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 128)), "PNG")) == 127).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(pixels_of(data)[16, 16], [255, 0, 0], atol=4)


def test_four_inks() -> None:
    image = Image.fromarray(PICTURE).convert("CMYK")
    assert psnr(pixels_of(encoded(image, "JPEG", quality=95)), pillow_square(Image.fromarray(PICTURE))) > 30


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, orientation: int) -> None:
    data = encoded(PICTURE, kind, exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        assert psnr(pixels_of(data), pillow_square(ImageOps.exif_transpose(image))) > 33


def test_the_extension_says_nothing() -> None:
    assert headers.sniff(FORMATS["png"]) == "png"  # whatever the file is called: only bytes are asked


@pytest.mark.parametrize("kind", FORMATS)
def test_bit_flips_never_raise(kind: str) -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        data = bytearray(FORMATS[kind])
        for position in random.integers(0, len(data), random.integers(1, 8)):
            data[position] ^= 1 << int(random.integers(0, 8))
        check(bytes(data))


def check(data: bytes) -> None:
    outcome = prepare_image(data, Spec(32, max_pixels=1_000_000))
    if isinstance(outcome, Prepared):
        assert outcome.rgb.shape == (32, 32, 3) and outcome.rgb.dtype == np.uint8
    else:
        assert outcome.reason and outcome.detail


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(sorted(FORMATS)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.binary(min_size=1, max_size=12)), max_size=8),
)
def test_mutated_bytes_never_raise(kind: str, edits: list[tuple[float, int, bytes]]) -> None:
    data = bytearray(FORMATS[kind])
    for place, action, content in edits:
        position = int(place * len(data))
        end = position if action == 0 else position + len(content)  # insert, overwrite, delete
        data[position:end] = b"" if action == 2 else content
    check(bytes(data))


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from([data[:16] for data in FORMATS.values()]), rest=st.binary(max_size=400))
def test_random_bytes_behind_a_good_start_never_raise(start: bytes, rest: bytes) -> None:
    check(start + rest)


def box(major: bytes, *brands: bytes) -> bytes:
    """The first box of a file of the ISO base media format."""
    content = b"ftyp" + major + bytes(4) + b"".join(brands)
    return struct.pack(">I", len(content) + 4) + content + bytes(40)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (box(b"heic", b"mif1", b"heic"), "heif"),
        (box(b"mif1", b"miaf", b"heix"), "heif"),
        (box(b"mif1", b"avif", b"miaf"), "avif"),
        (box(b"avif"), "avif"),
        (box(b"isom", b"mp42"), None),  # a film
        (box(b"qt  "), None),
        (b"\0\0\0\x18ftyp", None),
        (struct.pack(">I", 2**31) + b"ftypheic", "heif"),
    ],
)
def test_heic_and_avif_are_told_by_their_brands(data: bytes, kind: str | None) -> None:
    assert headers.sniff(data) == kind


def test_heic_without_its_package_names_format_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    decode._missing_decoder.cache_clear()
    try:
        outcome = prepare_image(box(b"heic", b"mif1"), SPEC)
        assert isinstance(outcome, Reject) and outcome.reason == decode.UNSUPPORTED
        assert "HEIC" in outcome.detail and "distributed-cls[heic]" in outcome.detail
        assert not decode.all_formats_decodable()
    finally:
        decode._missing_decoder.cache_clear()


@pytest.mark.parametrize(("kind", "orientation"), [("AVIF", 1), ("AVIF", 6), ("AVIF", 8), ("HEIF", 1)])
def test_heic_and_avif_are_decoded_and_upright(kind: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture = photo(96, 72)
    upright = np.asarray(ImageOps.exif_transpose(turned(picture, orientation)))
    outcome = prepare_image(encoded(Image.fromarray(picture), kind, quality=95, exif=exif(orientation)), SPEC)
    assert isinstance(outcome, Prepared) and outcome.format == kind.lower()
    assert psnr(outcome.rgb, pixels.to_square(upright, 32)) > 30


def turned(picture: np.ndarray, orientation: int) -> Image.Image:
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    return image


def test_an_image_that_does_not_fit_into_memory_is_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setitem(decode._READERS, "png", full)
    assert reason(FORMATS["png"]) == decode.UNREADABLE
