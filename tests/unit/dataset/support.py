"""Images for the tests of the dataset room, made from fixed seeds."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

# For programs that measure themselves. (The kernel's other figure, ru_maxrss, counts what the parent had at the fork.)
PEAK = """
def peak_megabytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))
"""


def photo(width: int, height: int, seed: int = 0, softness: float = 1.0) -> np.ndarray:
    """A picture with the spectrum of a photograph (amplitude falls as 1/frequency), slightly soft: uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    layers = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * random.random(frequency.shape))
        layer = np.fft.irfft2(phase / frequency**1.1, s=(height, width))
        layers.append(layer / layer.std())
    mixed = np.stack([0.8 * layers[0] + 0.4 * layer for layer in layers], axis=-1)
    image = np.clip(mixed * 45 + 120, 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), softness) if softness else image


def noise(random: np.random.Generator, width: int, height: int, channels: int = 3) -> np.ndarray:
    """Independent pixels, half of the time blurred: uint8 [H, W, channels]."""
    image = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return image if random.random() < 0.5 else cv2.GaussianBlur(image, (0, 0), 2).reshape(image.shape)


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """An image as the bytes of a file of Pillow's format ``kind``."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    """An Exif block with another tag before the orientation."""
    block = Image.Exif()
    block[0x010F] = "maker"
    block[0x0112] = orientation
    return block


def png_chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def grey_png(levels: np.ndarray, depth: int, transparent: int | None = None) -> bytes:
    """Grey levels [H, W] below 2^depth as a PNG of 1, 2 or 4 bits per pixel, which Pillow does not write."""
    height, width = levels.shape
    bits = (levels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    colour_key = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">H", transparent))
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + png_chunk(b"IHDR", header) + colour_key + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images, dB."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
