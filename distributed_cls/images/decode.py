"""From the bytes of any file to an RGB square, or to a reject with its reason. Pure functions; bad data never raises.

OpenCV decodes JPEG and plain PNG, which are nearly all images, fast and bit-equal to TensorFlow. Pillow takes what is
rare: palettes, transparency, other formats, four-ink JPEGs.
"""

import functools
import io
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError, features

from distributed_cls.contracts.rejects import (
    EMPTY,
    NOT_AN_IMAGE,
    TOO_MANY_BYTES,
    TOO_MANY_PIXELS,
    TOO_SMALL,
    TRUNCATED,
    UNDECODABLE,
    UNREADABLE,
    UNSUPPORTED,
)
from distributed_cls.images import headers, pixels

__all__ = [
    "EMPTY",
    "NOT_AN_IMAGE",
    "TOO_MANY_BYTES",
    "TOO_MANY_PIXELS",
    "TOO_SMALL",
    "TRUNCATED",
    "UNDECODABLE",
    "UNREADABLE",
    "UNSUPPORTED",
    "Prepared",
    "Reject",
    "Spec",
    "prepare_image",
]

_OPENCV_NO_MEMORY = -4  # cv::Error::StsNoMem
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True)
class Spec:
    """How an image is prepared, and what is refused. Sizes in pixels, ``max_bytes`` in bytes."""

    image_size: int
    resize: str = "stretch"
    min_edge: int = 8
    max_pixels: int = 64_000_000
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Prepared:
    """A prepared image: ``rgb`` uint8 [size, size, 3]; width and height of the original as stored; its format."""

    rgb: np.ndarray
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Reject:
    """Why an image is left out: a reason of ``contracts/rejects.py``, and what was found."""

    reason: str
    detail: str


def prepare_image(data: bytes, spec: Spec) -> Prepared | Reject:
    """Decode, check, turn upright and resize one encoded image."""
    if not data:
        return Reject(EMPTY, "0 bytes")
    if len(data) > spec.max_bytes:
        return Reject(TOO_MANY_BYTES, f"{len(data)} bytes, at most {spec.max_bytes}")
    kind = headers.sniff(data)
    if kind is None:
        return Reject(NOT_AN_IMAGE, f"starts with {headers.beginning(data)}")
    try:
        # Decoders warn about damage on stderr and through warnings; the reject's row names it once.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _READERS.get(kind, _read_other)(data, kind, spec)
    except MemoryError:  # a property of this machine at this moment, not of the image
        return Reject(UNREADABLE, f"{kind}: not enough memory to decode it")
    # Whatever a decoder raises on hostile bytes (Pillow: nearly any type), the answer is the same: this image is out.
    except Exception as error:
        return _reject_for(error, data, kind)


def _reject_for(error: Exception, data: bytes, kind: str) -> Reject:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # whose text is an address in memory
        text = "its header is damaged, or of a kind that cannot be read"
    if isinstance(error, Image.DecompressionBombError):
        return Reject(TOO_MANY_PIXELS, text)
    if isinstance(error, cv2.error) and error.code == _OPENCV_NO_MEMORY:
        return Reject(UNREADABLE, f"{kind}: not enough memory to decode it")
    cut = "truncated" in text.lower() or isinstance(error, EOFError)
    return Reject(TRUNCATED if cut else UNDECODABLE, f"{kind}: {text}")


def _check_size(width: int, height: int, spec: Spec) -> Reject | None:
    """Refuse by the header alone: a decompression bomb must not be decoded to be found out."""
    if width * height > spec.max_pixels:
        return Reject(TOO_MANY_PIXELS, f"{width}x{height}, at most {spec.max_pixels} pixels")
    if min(width, height) < spec.min_edge:
        return Reject(TOO_SMALL, f"{width}x{height}, at least {spec.min_edge} pixels on each edge")
    return None


def _finish(rgb: np.ndarray, width: int, height: int, kind: str, orientation: int, spec: Spec) -> Prepared:
    square = pixels.orient(pixels.to_square(rgb, spec.image_size, spec.resize), orientation)
    return Prepared(square, width, height, kind)


def _read_jpeg(data: bytes, kind: str, spec: Spec) -> Prepared | Reject:
    frame = headers.jpeg_frame(data)
    if frame is None:
        return Reject(TRUNCATED if b"\xff\xda" not in data else UNDECODABLE, "jpeg: no frame header")
    width, height, components = frame
    refused = _check_size(width, height, spec)
    if refused:
        return refused
    orientation = headers.jpeg_orientation(data)
    if components == 4:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            rgb = pixels.from_cmyk(np.asarray(image.convert("CMYK")))
        return _finish(rgb, width, height, kind, orientation, spec)
    factor = pixels.reduction(width, height, spec.image_size, spec.resize)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        whole = data.rfind(b"\xff\xd9") > 0
        return Reject(UNDECODABLE if whole else TRUNCATED, f"jpeg: {'damaged' if whole else 'no end of image'}")
    square = pixels.orient(pixels.to_square(bgr, spec.image_size, spec.resize), orientation)
    return Prepared(cv2.cvtColor(square, cv2.COLOR_BGR2RGB), width, height, kind)


def _read_png(data: bytes, kind: str, spec: Spec) -> Prepared | Reject:
    size = headers.png_size(data)
    if size is None:
        return Reject(TRUNCATED if len(data) < 33 else UNDECODABLE, "png: no header chunk")
    refused = _check_size(*size, spec)
    if refused:
        return refused
    chunks, whole = headers.png_chunks(data)
    if not whole:
        return Reject(TRUNCATED, "png: ends before its last chunk")
    colour_type = data[25]
    plain = colour_type in (0, 2, 6) and not chunks & {b"tRNS", b"acTL"}
    if not plain:
        return _read_other(data, kind, spec)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        return Reject(UNDECODABLE, "png: damaged")
    return _finish(_opencv_rgb(image), *size, kind, headers.png_orientation(data), spec)


def _opencv_rgb(image: np.ndarray) -> np.ndarray:
    """OpenCV's grey, BGR or BGRA, 8 or 16 bits, as uint8 RGB. Of 16 bits the upper 8 count."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        return pixels.over_white(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_other(data: bytes, kind: str, spec: Spec) -> Prepared | Reject:
    missing = _missing_decoder(kind)
    if missing:
        return Reject(UNSUPPORTED, missing)
    if kind == "webp" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        return Reject(TRUNCATED, f"webp: {len(data)} bytes of {int.from_bytes(data[4:8], 'little') + 8}")
    with Image.open(io.BytesIO(data), formats=(kind.upper(),)) as image:
        width, height = image.size
        refused = _check_size(width, height, spec)
        if refused:
            return refused
        # The size is checked above, by our limit; an orientation read here would be applied twice by Pillow's TIFF.
        rgb = _pillow_rgb(image)
        orientation = _orientation(image, data, kind)
    return _finish(rgb, width, height, kind, orientation, spec)


@functools.cache
def _missing_decoder(kind: str) -> str | None:
    """Which package would be needed for a format that not every installation can decode; None when it is there."""
    if kind == "avif" and not features.check("avif"):
        return "AVIF, which needs Pillow 11.3 or later; or convert it to JPEG"
    if kind == "heif":
        try:
            # An extra: its decoder is under a licence of its own, and few data sets need it.
            from pillow_heif import register_heif_opener
        except ImportError:
            return "HEIC, which needs pillow-heif (pip install 'distributed-cls[heic]'); or convert it to JPEG"
        register_heif_opener()
    return None


def all_formats_decodable() -> bool:
    """Whether this installation can decode every format that ``headers.sniff`` knows."""
    return not any(_missing_decoder(kind) for kind in headers.FORMATS)


def _orientation(image: Image.Image, data: bytes, kind: str) -> int:
    if kind == "webp" and image.info.get("exif"):
        block = image.info["exif"]
        return headers.tiff_orientation(block[6:] if block[:6] == b"Exif\x00\x00" else block)
    if kind == "png":
        return headers.png_orientation(data)
    if kind == "avif":  # Pillow tells the turn that the file asks for as an orientation
        return int(image.getexif().get(headers.ORIENTATION_TAG, 1))
    # Pillow turns a TIFF upright by itself while loading, and pillow-heif a HEIC, by the file's own property: the
    # standard says to ignore the EXIF orientation, which repeats it.
    return 1


def _pillow_rgb(image: Image.Image) -> np.ndarray:
    """The first frame of a Pillow image as uint8 RGB, alpha over white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        levels = np.asarray(image).astype(np.int64)
        grey = (np.clip(levels, 0, 65535) >> 8).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if image.mode == "F":
        raise ValueError("floating-point samples have no fixed range")
    if image.mode == "CMYK":
        return pixels.from_cmyk(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return pixels.over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


_READERS = {"jpeg": _read_jpeg, "png": _read_png}
