"""Images in and out: the preparation's own decoding, with reasons that a visitor understands."""

import cv2
import numpy as np

from distributed_cls.contracts.export import Export
from distributed_cls.images import decode, pixels

_USER_MESSAGES = {
    decode.EMPTY: "The file is empty.",
    decode.NOT_AN_IMAGE: "This is not an image. JPEG, PNG, WebP, GIF, BMP and TIFF can be read.",
    decode.UNSUPPORTED: "This format cannot be read here. Send it as JPEG, PNG or WebP.",
    decode.TRUNCATED: "The image is cut off: its end is missing.",
    decode.UNDECODABLE: "The image is damaged and cannot be decoded.",
    decode.TOO_MANY_PIXELS: "The image has too many pixels.",
    decode.TOO_MANY_BYTES: "The file is too large.",
    decode.TOO_SMALL: "The image is too small.",
}


class BadImageError(Exception):
    """An image that cannot be classified. ``reason`` is one of ``contracts.rejects``'s; the text is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(_USER_MESSAGES.get(reason, "The image cannot be read."))
        self.reason = reason
        self.detail = detail


def prepare(data: bytes, export: Export) -> np.ndarray:
    """An encoded image as the model sees it: uint8 [T, T, C], bit-equal to the preparation. Raises BadImageError."""
    # No edge is too small to be classified, only to be trained on.
    spec = decode.Spec(image_size=export.image_size, resize=export.resize, min_edge=1)
    prepared = decode.prepare_image(data, spec)
    if isinstance(prepared, decode.Reject):
        raise BadImageError(prepared.reason, prepared.detail)
    return pixels.with_channels(prepared.rgb, export.channels)


def colour_map(importance: np.ndarray, edge: int) -> np.ndarray:
    """A heat map, float32 [h, w] from 0 to 1, as colours to lay over a picture: uint8 RGBA [edge, edge, 4].

    The colours run from transparent over orange to light yellow, so that more is both brighter and denser: it reads
    the same in every kind of colour vision.
    """
    heat = np.clip(cv2.resize(importance, (edge, edge), interpolation=cv2.INTER_CUBIC), 0, 1)
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    colours = np.array([[120, 20, 70, 0], [214, 60, 50, 120], [250, 150, 40, 190], [255, 240, 170, 225]], np.float64)
    channels = [np.interp(heat, stops, colours[:, channel]) for channel in range(4)]
    painted: np.ndarray = np.stack(channels, axis=-1).round().astype(np.uint8)
    return painted


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 RGBA image [H, W, 4] as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))
    return encoded.tobytes()
