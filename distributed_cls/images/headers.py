"""The header of an image file, read before any pixel is decoded: format, size, EXIF orientation.

Only the first bytes are believed, never the file's extension. ``images/graph.py`` reads the orientation of JPEG and PNG
with the same bounds in tensor operations; a change here is a change there. Needs neither OpenCV nor TensorFlow.
"""

import struct

FORMATS = ("jpeg", "png", "gif", "bmp", "webp", "tiff", "heif", "avif")
MAX_SEGMENTS = 32  # JPEG segments that are searched for Exif
MAX_ENTRIES = 200  # entries of the first Exif directory that are searched for the orientation

ORIENTATION_TAG = 0x0112
SHORT, LONG = 3, 4  # TIFF types of 2 and 4 bytes: the standard asks for the first, some tools write the second
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_MAX_BRANDS = 64  # of a file's first box that are read
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def sniff(data: bytes) -> str | None:
    """The format of an encoded image, one of ``FORMATS``, or None when the bytes start like none of them."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return "tiff"
    if data[:2] == b"BM" and len(data) >= 26 and data[6:10] == b"\x00\x00\x00\x00":
        return "bmp"
    return _sniff_boxes(data)


def _sniff_boxes(data: bytes) -> str | None:
    """HEIC or AVIF by the brands in the file's first box; ``mif1`` alone counts as HEIC."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), _MAX_BRANDS * 4, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def beginning(data: bytes) -> str:
    """How a file begins, for people: its first characters where they are text (a web page, a pointer of Git LFS)."""
    first = data[:24].removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].rstrip()
    if len(first) > 3 and first.isascii() and first.decode().isprintable():
        return repr(first.decode())
    return data[:8].hex(" ")


def jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """(width, height, components) of a JPEG, from its start-of-frame segment; None when there is none."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker in _START_OF_FRAME:
            if position + 10 > len(data):
                return None
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            return width, height, components
        elif marker in (0xD9, 0xDA):  # end of image, start of scan: the frame should have come before
            return None
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 when there is none or it cannot be read within bounds."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] in (0xD9, 0xDA):
            return 1
        length = struct.unpack_from(">H", data, position + 2)[0]
        segment = data[position + 4 : position + 2 + length]
        if data[position + 1] == 0xE1 and segment[:6] == b"Exif\x00\x00":
            return tiff_orientation(segment[6:])
        position += 2 + length
    return 1


def tiff_orientation(block: bytes) -> int:
    """The orientation tag in the first directory of a TIFF block (which is also what Exif is); 1 by default."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 10:
        return 1
    magic, start = struct.unpack_from(order + "HI", block, 2)
    if magic != 42 or start + 2 > len(block):
        return 1
    entries = struct.unpack_from(order + "H", block, start)[0]
    if entries > MAX_ENTRIES or start + 2 + 12 * entries > len(block):
        return 1
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        if tag == ORIENTATION_TAG and kind in (SHORT, LONG):
            value = struct.unpack_from(order + ("H" if kind == SHORT else "I"), block, entry + 8)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG, from its header chunk; None when the header is not whole."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def png_orientation(data: bytes) -> int:
    """The EXIF orientation of a PNG (its eXIf chunk), 1 to 8; 1 when there is none among the first chunks."""
    position = 8
    for _ in range(MAX_SEGMENTS):
        if position + 12 > len(data):
            return 1
        length, name = struct.unpack_from(">I4s", data, position)
        if length > len(data):
            return 1
        if name == b"eXIf":
            return tiff_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
    return 1


def png_chunks(data: bytes) -> tuple[set[bytes], bool]:
    """The names of a PNG's chunks, and whether the file is whole, that is, reaches its IEND chunk."""
    names: set[bytes] = set()
    position = 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            return names, False
        names.add(name)
        if name == b"IEND":
            return names, True
    return names, False
