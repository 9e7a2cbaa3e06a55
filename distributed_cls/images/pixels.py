"""The pixel arithmetic of a prepared image: one definition, in whole numbers, with a twin inside the exported model.

A picture becomes a square in three steps, each of which another implementation can repeat bit for bit:

1. a JPEG is decoded at 1/r of its size (r = 1, 2, 4 or 8, ``reduction``), which costs a fraction of a full decode;
2. each axis goes to k times its target by bilinear interpolation in fixed point (OpenCV's INTER_LINEAR_EXACT: weights
   of 8 bits, one rounding at the end);
3. an axis that shrinks to less than half is averaged to twice its target and smoothed by (1, 2, 1) / 4; then pairs of
   pixels are averaged. Together that is close to the triangle of Pillow's BILINEAR, and fine detail does not alias.

``images/graph.py`` does the same with TensorFlow operations, so that a served model sees exactly the pixels it
was trained on. Plain INTER_LINEAR is a little faster, but its rounding is an implementation detail of the CPU.
"""

import cv2
import numpy as np

RESIZE_MODES = ("stretch", "crop", "pad")
WHITE = 255
LUMA = (19595, 38470, 7471)  # of red, green and blue, in 1/65536


def reduction(width: int, height: int, size: int, mode: str = "stretch") -> int:
    """The largest r of 8, 4, 2, 1 by which a JPEG may be decoded smaller.

    Two conditions: the smaller picture still covers the target (by 5/4 when r is 4 or 8: there the decoder averages
    whole blocks, and what is left must be interpolated less), and its size, which is rounded up to whole pixels,
    stretches the content by at most an eighth of a target pixel.
    """
    target_width, target_height = content_size(width, height, size, mode)
    for factor in (8, 4, 2):
        if _may_reduce(width, target_width, factor) and _may_reduce(height, target_height, factor):
            return factor
    return 1


def _may_reduce(length: int, target: int, factor: int) -> bool:
    reduced = -(-length // factor)
    overhang = reduced * factor - length
    covers = 4 * reduced >= (5 if factor > 2 else 4) * target
    return covers and 8 * overhang * target <= reduced * factor


def content_size(width: int, height: int, size: int, mode: str) -> tuple[int, int]:
    """(width, height) that the picture itself takes in the square of edge ``size``: less than it only for ``pad``."""
    if mode != "pad":
        return size, size
    longest = max(width, height)
    return max(1, (2 * width * size + longest) // (2 * longest)), max(1, (2 * height * size + longest) // (2 * longest))


def oversampling(length: int, target: int) -> int:
    """k: the axis is interpolated to k x target pixels before it is averaged; 1, or an even number.

    Interpolation may only shrink an axis slightly (by at most 1.25, and never when k is 1): what it would alias lies
    near the highest frequency, which the averaging removes.
    """
    if length <= target:
        return 1
    return 2 * max(1, (2 * length + 3 * target) // (4 * target))


def is_smoothed(length: int, target: int) -> bool:
    """Whether the axis shrinks enough for the mean of blocks alone to be too sharp a filter."""
    return length >= 2 * target


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    in_height, in_width = image.shape[:2]
    kx, ky = oversampling(in_width, width), oversampling(in_height, height)
    image = _to(image, kx * width, ky * height, cv2.INTER_LINEAR_EXACT)
    image = _to(image, min(kx, 2) * width, min(ky, 2) * height, cv2.INTER_AREA)
    window = (3 if is_smoothed(in_width, width) else 1, 3 if is_smoothed(in_height, height) else 1)
    if window != (1, 1):
        image = cv2.GaussianBlur(image, window, 0)  # (1, 2, 1) / 4 on each axis, mirrored at the borders
    return _to(image, width, height, cv2.INTER_AREA)


def _to(image: np.ndarray, width: int, height: int, method: int) -> np.ndarray:
    return image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height), interpolation=method)


def to_square(image: np.ndarray, size: int, mode: str = "stretch") -> np.ndarray:
    """A uint8 image [H, W, 3] as uint8 [size, size, 3].

    ``mode``: stretch (each axis on its own), crop (the largest centred square) or pad (white bars, centred).
    """
    height, width = image.shape[:2]
    if mode == "crop":
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        image = image[top : top + edge, left : left + edge]
    inner_width, inner_height = content_size(width, height, size, mode)
    inner = _resize(image, inner_width, inner_height)
    if inner.shape[:2] == (size, size):
        return inner
    square = np.full((size, size, 3), WHITE, np.uint8)
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    square[top : top + inner_height, left : left + inner_width] = inner
    return square


def orient(square: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8): turned and mirrored so that the picture stands as it was seen."""
    if orientation >= 5:
        square = square.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        square = square[::-1]
    if orientation in (2, 3, 6, 7):
        square = square[:, ::-1]
    return np.ascontiguousarray(square)


def over_white(image: np.ndarray) -> np.ndarray:
    """A uint8 image with alpha [H, W, 4] laid over white, rounded to the nearest: uint8 [H, W, 3]."""
    alpha = image[..., 3:].astype(np.uint32)
    colour = image[..., :3].astype(np.uint32)
    return ((colour * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)


def is_grey(rgb: np.ndarray) -> bool:
    """Whether the three channels of a uint8 image [H, W, 3] are equal everywhere."""
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())


def luma(rgb: np.ndarray) -> np.ndarray:
    """The brightness of a uint8 image [H, W, 3], uint8 [H, W]: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    In whole numbers, weights of 16 bits that sum to one, rounded half up: what is grey stays as it is.
    """
    weighted = rgb.astype(np.uint32) @ np.array(LUMA, np.uint32)
    return ((weighted + (1 << 15)) >> 16).astype(np.uint8)


def with_channels(rgb: np.ndarray, channels: int) -> np.ndarray:
    """A uint8 image [H, W, 3] as a model with so many channels takes it: uint8 [H, W, channels]."""
    return rgb if channels == 3 else luma(rgb)[..., None]


def from_cmyk(inks: np.ndarray) -> np.ndarray:
    """Inks, uint8 [H, W, 4] with 255 for full ink, as RGB without a colour profile: uint8 [H, W, 3]."""
    light = 255 - inks.astype(np.uint32)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
