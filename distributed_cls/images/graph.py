"""Encoded images to model input inside the graph: the twin of ``images/pixels.py``, bit for bit.

An exported model contains this, so a JPEG or PNG that a client sends becomes exactly the pixels that preparation would
have made of it. The arithmetic is explained in ``images/pixels.py``; every function here repeats one of there, and
``tests/unit/images/test_pixels.py`` holds the two together. (They share no arithmetic because preparation runs without
TensorFlow, and an exported graph without OpenCV.)
"""

import tensorflow as tf

from distributed_cls.images.headers import LONG, MAX_ENTRIES, MAX_SEGMENTS, ORIENTATION_TAG, SHORT

_LUMA = (19595, 38470, 7471)  # of red, green and blue, in 1/65536


@tf.autograph.experimental.do_not_convert  # all control flow is written out: nothing to convert, which takes seconds
def decode_images(
    image_bytes: tf.Tensor, image_size: int, resize_mode: str = "stretch", channels: int = 3
) -> tf.Tensor:
    """Encoded images, string [N], as uint8 [N, image_size, image_size, channels], channels 1 or 3.

    Reads JPEG and PNG (EXIF orientation applied, alpha over white), WebP without an EXIF orientation, GIF without
    transparency (first frame) and 24-bit BMP. What cannot be decoded raises InvalidArgumentError.
    """
    images = tf.map_fn(
        lambda data: decode_image(data, image_size, resize_mode), image_bytes, fn_output_signature=tf.uint8
    )
    return with_channels(tf.reshape(images, [-1, image_size, image_size, 3]), channels)


def with_channels(rgb: tf.Tensor, channels: int) -> tf.Tensor:
    """Uint8 images [..., 3] as a model with so many channels takes them: uint8 [..., channels]."""
    if channels == 3:
        return rgb
    weighted = tf.reduce_sum(tf.cast(rgb, tf.int32) * tf.constant(_LUMA), axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + (1 << 15), 16), tf.uint8)


def decode_image(data: tf.Tensor, image_size: int, resize_mode: str = "stretch") -> tf.Tensor:
    """One encoded image, scalar string, as uint8 [image_size, image_size, 3]."""
    is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    square = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(data, image_size, resize_mode),
        lambda: _orient(to_square(_decode_other(data), image_size, resize_mode), png_orientation(data)),
    )
    square.set_shape([image_size, image_size, 3])
    return square


def _decode_jpeg(data: tf.Tensor, size: int, mode: str) -> tf.Tensor:
    shape = tf.image.extract_jpeg_shape(data)
    height, width = shape[0], shape[1]
    ratio = tf.where(shape[2] == 4, 1, _reduction(width, height, size, mode))  # four inks: decoded at full size
    branches = [
        lambda r=r: tf.io.decode_jpeg(data, channels=3, ratio=r, dct_method="INTEGER_ACCURATE") for r in (1, 2, 4, 8)
    ]
    index = tf.cast(ratio >= 2, tf.int32) + tf.cast(ratio >= 4, tf.int32) + tf.cast(ratio >= 8, tf.int32)
    return _orient(to_square(tf.switch_case(index, branches), size, mode), jpeg_orientation(data))


def _decode_other(data: tf.Tensor) -> tf.Tensor:
    is_gif = tf.strings.substr(data, 0, 3) == b"GIF"
    is_bmp = tf.strings.substr(data, 0, 2) == b"BM"
    is_webp = tf.strings.substr(data, 0, 4) == b"RIFF"
    index = tf.where(is_gif, 1, tf.where(is_bmp, 2, tf.where(is_webp, 3, 0)))
    return tf.switch_case(
        index,
        [lambda: _decode_png(data), lambda: _decode_gif(data), lambda: _decode_bmp(data), lambda: _decode_webp(data)],
    )


def _decode_png(data: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(data, channels=4), tf.int32)
    # The alpha that is added to grey of 1, 2 or 4 bits says "opaque" as the largest value of so many bits, not as 255.
    header = _bytes(tf.strings.substr(data, 0, 26), 26)
    depth, colour_type = header[24], header[25]
    opaque = tf.where((colour_type == 0) & (depth < 8), tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, 255)
    alpha = image[..., 3:]
    return _over_white(tf.concat([image[..., :3], tf.where(alpha == opaque, 255, alpha)], axis=2))


def _decode_gif(data: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_gif(data)[0]


def _decode_bmp(data: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_bmp(data, channels=3)


def _decode_webp(data: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_webp(data, channels=0)[0]  # as many channels as the file has: 3, or 4 with alpha
    opaque = tf.fill(tf.concat([tf.shape(image)[:2], [4 - tf.shape(image)[2]]], 0), tf.constant(255, tf.uint8))
    return _over_white(tf.cast(tf.concat([image, opaque], axis=2), tf.int32))


def _over_white(image: tf.Tensor) -> tf.Tensor:
    """An int32 image [H, W, 4] laid over white: uint8 [H, W, 3]."""
    alpha = image[..., 3:]
    return tf.cast((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _reduction(width: tf.Tensor, height: tf.Tensor, size: int, mode: str) -> tf.Tensor:
    target_width, target_height = _content_size(width, height, size, mode)
    ratio = tf.constant(1)
    for factor in (2, 4, 8):
        fits = _may_reduce(width, target_width, factor) & _may_reduce(height, target_height, factor)
        ratio = tf.where(fits, factor, ratio)
    return ratio


def _may_reduce(length: tf.Tensor, target: tf.Tensor | int, factor: int) -> tf.Tensor:
    reduced = (length + factor - 1) // factor
    overhang = reduced * factor - length
    covers = 4 * reduced >= (5 if factor > 2 else 4) * target
    return covers & (8 * overhang * target <= reduced * factor)


def _content_size(width: tf.Tensor, height: tf.Tensor, size: int, mode: str) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    if mode != "pad":
        return size, size
    longest = tf.maximum(width, height)
    return (
        tf.maximum(1, (2 * width * size + longest) // (2 * longest)),
        tf.maximum(1, (2 * height * size + longest) // (2 * longest)),
    )


def to_square(image: tf.Tensor, size: int, mode: str = "stretch") -> tf.Tensor:
    """A uint8 image [H, W, 3] as uint8 [size, size, 3]; ``mode`` as in ``images/pixels.py``."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    if mode == "crop":
        edge = tf.minimum(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        image = image[top : top + edge, left : left + edge]
    inner_width, inner_height = _content_size(width, height, size, mode)
    inner = _resize(image, inner_width, inner_height)
    if mode != "pad":
        return inner
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    bars = [[top, size - inner_height - top], [left, size - inner_width - left], [0, 0]]
    return tf.pad(inner, bars, constant_values=tf.constant(255, tf.uint8))


def _resize(image: tf.Tensor, width: tf.Tensor | int, height: tf.Tensor | int) -> tf.Tensor:
    in_height, in_width = tf.shape(image)[0], tf.shape(image)[1]
    kx, ky = _oversampling(in_width, width), _oversampling(in_height, height)
    pixels = tf.cast(image, tf.int32)
    # Rows before columns or columns before rows: the same sum of products, rounded once.
    pixels = _interpolate(pixels, in_width, kx * width, axis=1)
    pixels = _interpolate(pixels, in_height, ky * height, axis=0)
    pixels = tf.bitwise.right_shift(pixels + (1 << 15), 16)
    twice_x, twice_y = tf.minimum(kx, 2), tf.minimum(ky, 2)
    pixels = _mean_blocks(pixels, kx // twice_x, ky // twice_y, twice_x * width, twice_y * height)
    pixels = _smooth(pixels, in_width >= 2 * width, axis=1)
    pixels = _smooth(pixels, in_height >= 2 * height, axis=0)
    pixels = tf.bitwise.right_shift(pixels + 8, 4)
    return tf.cast(_mean_blocks(pixels, twice_x, twice_y, width, height), tf.uint8)


def _oversampling(length: tf.Tensor, target: tf.Tensor | int) -> tf.Tensor:
    return tf.where(length <= target, 1, 2 * tf.maximum(1, (2 * length + 3 * target) // (4 * target)))


def _smooth(pixels: tf.Tensor, wanted: tf.Tensor, axis: int) -> tf.Tensor:
    """(1, 2, 1) along an axis, mirrored at the borders, or 4 times the pixels: the values grow by 4 either way."""
    length = tf.shape(pixels)[axis]
    at = tf.range(length)
    before = tf.minimum(tf.abs(at - 1), length - 1)
    after = tf.maximum(0, tf.where(at + 1 < length, at + 1, length - 2))
    neighbours = tf.gather(pixels, before, axis=axis) + tf.gather(pixels, after, axis=axis)
    return tf.where(wanted, 2 * pixels + neighbours, 4 * pixels)


def _interpolate(pixels: tf.Tensor, length: tf.Tensor, target: tf.Tensor, axis: int) -> tf.Tensor:
    """One axis to ``target`` pixels, weights in 1/256 and not divided out: the values grow by 2^8."""
    scale = 1.0 / (tf.cast(target, tf.float64) / tf.cast(length, tf.float64))
    position = (tf.cast(tf.range(target), tf.float64) + 0.5) * scale - 0.5
    left = tf.cast(tf.floor(position), tf.int32)
    weight = tf.cast(tf.round((position - tf.floor(position)) * 256.0), tf.int32)
    weight = tf.where((left < 0) | (left >= length - 1), 0, weight)
    left = tf.clip_by_value(left, 0, length - 1)
    right = tf.minimum(left + 1, length - 1)
    weight = tf.reshape(weight, [-1, 1, 1] if axis == 0 else [1, -1, 1])
    return tf.gather(pixels, left, axis=axis) * (256 - weight) + tf.gather(pixels, right, axis=axis) * weight


def _mean_blocks(
    pixels: tf.Tensor, kx: tf.Tensor, ky: tf.Tensor, width: tf.Tensor | int, height: tf.Tensor | int
) -> tf.Tensor:
    """The mean of each block of ky x kx: half up for 2 x 2, half to even otherwise (as OpenCV rounds)."""
    blocks = tf.reshape(pixels, tf.stack([height, ky, width, kx, 3]))
    total = tf.reduce_sum(blocks, axis=[1, 3])
    by_four = tf.bitwise.right_shift(total + 2, 2)
    share = 1.0 / tf.cast(kx * ky, tf.float32)
    rounded = tf.cast(tf.round(tf.cast(total, tf.float32) * share), tf.int32)
    return tf.where((kx == 2) & (ky == 2), by_four, rounded)


def _orient(square: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    square = tf.where(orientation >= 5, tf.transpose(square, [1, 0, 2]), square)
    upside_down = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8]))
    square = tf.where(upside_down, square[::-1], square)
    mirrored = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7]))
    return tf.where(mirrored, square[:, ::-1], square)


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG, scalar int32 from 1 to 8; 1 when there is none within the bounds."""
    total = tf.strings.length(data)

    def more(position: tf.Tensor, count: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        return (orientation == 0) & (count < MAX_SEGMENTS)

    def step(position: tf.Tensor, count: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        head = _bytes(tf.strings.substr(data, tf.minimum(position, total), 4), 4)
        length = head[2] * 256 + head[3]
        ended = (position + 4 > total) | (head[0] != 0xFF) | (head[1] == 0xD9) | (head[1] == 0xDA)
        segment = tf.strings.substr(data, tf.minimum(position + 4, total), tf.maximum(length - 2, 0))
        is_exif = (head[1] == 0xE1) & (tf.strings.substr(segment, 0, 6) == b"Exif\x00\x00")
        found = tf.cond(is_exif & ~ended, lambda: _tiff_orientation(_after(segment, 6)), lambda: tf.constant(0))
        return position + 2 + length, count + 1, tf.where(ended, 1, found)

    _, _, orientation = tf.while_loop(more, step, (tf.constant(2), tf.constant(0), tf.constant(0)))
    return tf.maximum(orientation, 1)


def png_orientation(data: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a PNG, scalar int32 from 1 to 8; 1 for other formats and without an eXIf chunk."""
    total = tf.cast(tf.strings.length(data), tf.int64)
    is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"

    def more(position: tf.Tensor, count: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        return (orientation == 0) & (count < MAX_SEGMENTS)

    def step(position: tf.Tensor, count: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rest = _after(data, tf.cast(tf.minimum(position, total), tf.int32))
        head = tf.cast(_bytes(rest, 4), tf.int64)
        length = tf.reduce_sum(head * tf.constant([2**24, 2**16, 2**8, 1], tf.int64))
        ended = (position + 12 > total) | (length > total)
        is_exif = tf.strings.substr(_after(rest, 4), 0, 4) == b"eXIf"
        block = tf.strings.substr(_after(rest, 8), 0, tf.cast(tf.minimum(length, total), tf.int32))
        found = tf.cond(is_exif & ~ended, lambda: _tiff_orientation(block), lambda: tf.constant(0))
        return position + 12 + length, count + 1, tf.where(ended, 1, found)

    start = (tf.constant(8, tf.int64), tf.constant(0), tf.where(is_png, 0, 1))
    return tf.maximum(tf.while_loop(more, step, start)[2], 1)


def _after(text: tf.Tensor, start: tf.Tensor | int) -> tf.Tensor:
    return tf.strings.substr(text, tf.minimum(start, tf.strings.length(text)), tf.strings.length(text))


def _bytes(text: tf.Tensor, count: int) -> tf.Tensor:
    """The first ``count`` bytes of a string as int32 [count], zeros where it is shorter."""
    raw = tf.cast(tf.io.decode_raw(tf.strings.substr(text, 0, count), tf.uint8), tf.int32)
    return tf.reshape(tf.pad(raw, [[0, count - tf.size(raw)]]), [count])


def _tiff_orientation(block: tf.Tensor) -> tf.Tensor:
    size = tf.cast(tf.strings.length(block), tf.int64)
    head = _bytes(block, 8)
    little = (head[0] == 0x49) & (head[1] == 0x49)
    big = (head[0] == 0x4D) & (head[1] == 0x4D)

    def number(parts: tf.Tensor) -> tf.Tensor:
        """Bytes, int32 [..., n], as whole numbers in the block's byte order, int64 [...]."""
        ordered = tf.cast(tf.where(little, tf.reverse(parts, [-1]), parts), tf.int64)
        powers = [256**power for power in reversed(range(parts.shape[-1]))]
        return tf.reduce_sum(ordered * tf.constant(powers, tf.int64), axis=-1)

    start = number(head[4:8])
    readable = (little | big) & (number(head[2:4]) == 42) & (size >= 10) & (start + 2 <= size)
    start = tf.cast(tf.where(readable, start, 0), tf.int32)
    entries = tf.cast(number(_bytes(_after(block, start), 2)), tf.int32)
    readable &= (entries <= MAX_ENTRIES) & (tf.cast(start + 2 + 12 * entries, tf.int64) <= size)
    table = tf.reshape(_bytes(_after(block, start + 2), 12 * MAX_ENTRIES), [MAX_ENTRIES, 12])
    kinds = number(table[:, 2:4])
    is_orientation = (number(table[:, 0:2]) == ORIENTATION_TAG) & ((kinds == SHORT) | (kinds == LONG))
    is_orientation &= tf.range(MAX_ENTRIES) < entries
    first = tf.argmax(tf.cast(is_orientation, tf.int32), output_type=tf.int32)
    entry = tf.gather(table, first)
    value = tf.where(tf.gather(kinds, first) == LONG, number(entry[8:12]), number(entry[8:10]))
    valid = readable & tf.reduce_any(is_orientation) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(valid, value, 1), tf.int32)
