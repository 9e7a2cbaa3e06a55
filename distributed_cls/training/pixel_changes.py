"""What augmentation does to pixels, for a batch at a time: each image has a parameter of its own, and a neutral one
leaves it as it is. Images are float32 [N, S, S, C] with values 0 to 255 and one or three channels.
"""

import tensorflow as tf

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and JPEG have it
_SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))  # Pillow's filter of that name, its weights' sum is 13


def warp(images: tf.Tensor, linear: tf.Tensor, move: tf.Tensor, interpolation: str = "BILINEAR") -> tf.Tensor:
    """Read each image at linear · (place - centre) + centre + move; beyond the border it repeats outwards.

    linear: float32 [N, 2, 2], move: float32 [N, 2], both of (x, y) in pixels. Also for uint8 with NEAREST.
    """
    size = images.shape[1]
    centre = tf.fill([2], (size - 1) / 2)
    offset = centre - tf.linalg.matvec(linear, centre) + move
    zeros = tf.zeros([tf.shape(images)[0], 2])
    rows = [linear[:, 0], offset[:, :1], linear[:, 1], offset[:, 1:], zeros]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.concat(rows, 1),
        output_shape=tf.constant([size, size]),
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="NEAREST",
    )


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply by ``factor`` [N]; 1 is neutral."""
    return _blended(tf.zeros_like(images), images, factor)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply the distances from the mean grey by ``factor`` [N]; 1 is neutral."""
    mean = tf.round(tf.reduce_mean(grey(images), [1, 2, 3], keepdims=True))
    return _blended(mean, images, factor)


def colour(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply the distances from grey by ``factor`` [N]; 1 is neutral, and grey images stay as they are."""
    return _blended(grey(images), images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply the distances from the smoothed image by ``factor`` [N]; 1 is neutral. The border stays."""
    channels = images.shape[-1]
    kernel = tf.tile(tf.constant(_SMOOTH, tf.float32)[:, :, None, None] / 13, [1, 1, channels, 1])
    smooth = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "VALID")
    inside = tf.pad(tf.ones_like(smooth, tf.bool), [[0, 0], [1, 1], [1, 1], [0, 0]])
    smooth = tf.where(inside, tf.pad(smooth, [[0, 0], [1, 1], [1, 1], [0, 0]]), images)
    return _blended(smooth, images, factor)


def autocontrast(images: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Stretch each channel to 0 to 255 where ``wanted`` (bool [N]); one of a single value stays."""
    low = tf.reduce_min(images, [1, 2], keepdims=True)
    span = tf.reduce_max(images, [1, 2], keepdims=True) - low
    stretched = tf.where(span > 0, (images - low) * tf.math.divide_no_nan(255.0, span), images)
    return tf.where(wanted[:, None, None, None], stretched, images)


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keep the ``bits`` (int32 [N]) highest bits of each value; 8 is neutral for whole numbers."""
    step = tf.cast(2 ** (8 - bits), tf.float32)[:, None, None, None]
    return tf.floor(images / step) * step


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert the values from ``threshold`` [N] on; 256 is neutral."""
    return tf.where(images >= threshold[:, None, None, None], 255 - images, images)


def fill_box(images: tf.Tensor, box: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """``content`` (what fits ``images`` by broadcasting) within ``box``: int32 [N, 4] of top, left, bottom, right.

    Bottom and right are excluded; an empty box is neutral. Also for uint8.
    """
    return tf.where(_in_box(box, images.shape[1])[..., None], content, images)


def _in_box(box: tf.Tensor, size: int) -> tf.Tensor:
    """bool [N, size, size]"""
    place = tf.range(size)[None]
    rows = (place >= box[:, :1]) & (place < box[:, 2:3])
    columns = (place >= box[:, 1:2]) & (place < box[:, 3:])
    return rows[:, :, None] & columns[:, None, :]


def grey(images: tf.Tensor) -> tf.Tensor:
    """float32 [N, S, S, 1]"""
    if images.shape[-1] == 1:
        return images
    return tf.tensordot(images, tf.constant(_GREY), 1)[..., None]


def whole(images: tf.Tensor) -> tf.Tensor:
    """Rounded to whole numbers from 0 to 255, still float32."""
    return tf.clip_by_value(tf.round(images), 0.0, 255.0)


def _blended(neutral: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return whole(neutral + (images - neutral) * factor[:, None, None, None])
