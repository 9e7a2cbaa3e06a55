"""TFRecord files and tf.train.Example messages, written and read without TensorFlow.

Framing of a record: length (uint64, little endian), masked crc32c of the length, data, masked crc32c of the data.
An Example is the protocol buffer ``Features{map<string, Feature>}``; only what our records hold is known here.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c

HEADER_BYTES = 12
FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8


class DamagedRecord(ValueError):
    """A record whose checksum, length or fields are wrong."""


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protocol buffer field."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _entry(name: bytes, feature: bytes) -> bytes:
    return _field(1, _field(1, name) + _field(2, feature))


def example(image: bytes, label: int, key: bytes) -> bytes:
    """A serialised tf.train.Example {image: bytes, key: bytes, label: int64}."""
    label_feature = _field(3, _field(1, _varint(label)))
    return _field(
        1,
        _entry(b"key", _field(1, _field(1, key)))
        + _entry(b"label", label_feature)
        # Last, so that an image's place in the file follows from the record's end (see ``image_offset``).
        + _entry(b"image", _field(1, _field(1, image))),
    )


def frame(data: bytes) -> bytes:
    """``data`` as one record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def image_offset(record_end: int, image_bytes: int) -> int:
    """Where an image begins in the file, given the end of its framed record."""
    return record_end - FOOTER_BYTES - image_bytes


def read_frames(stream: IO[bytes]) -> Iterator[bytes]:
    """The records of a TFRecord file in order, each checked. Raises DamagedRecord."""
    while header := stream.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES or _masked_crc(header[:8]) != header[8:]:
            raise DamagedRecord("the length of a record is damaged")
        length = struct.unpack("<Q", header[:8])[0]
        data, footer = stream.read(length), stream.read(FOOTER_BYTES)
        if len(data) < length or _masked_crc(data) != footer:
            raise DamagedRecord("the content of a record is damaged")
        yield data


def record_start(path: Path, number: int) -> int:
    """The byte at which record ``number`` of a TFRecord file begins: a step from header to header, nothing is read."""
    position = 0
    with path.open("rb") as stream:
        for _ in range(number):
            stream.seek(position)
            header = stream.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise DamagedRecord(f"the file has no record {number}")
            position += HEADER_BYTES + struct.unpack("<Q", header[:8])[0] + FOOTER_BYTES
    return position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == 2:
            position += value
            if position > len(data):
                raise DamagedRecord("a field ends beyond its record")
            yield tag >> 3, data[position - value : position]
        elif tag & 7 == 0:
            yield tag >> 3, value
        else:
            raise DamagedRecord(f"unexpected wire type {tag & 7}")


def parse_example(data: bytes) -> dict[str, bytes | int]:
    """The features of an Example as ``example`` writes it: name to bytes or int. Raises DamagedRecord."""
    found: dict[str, bytes | int] = {}
    try:
        for _, features in _fields(data):
            for _, item in _fields(features):
                name, feature = (value for _, value in _fields(item))
                kind, values = next(_fields(feature))
                packed = next(_fields(values))[1]
                found[name.decode()] = packed if kind == 1 else _read_varint(packed, 0)[0]
    except (IndexError, StopIteration, ValueError) as error:
        raise DamagedRecord(f"a record is not an Example of ours ({error})") from None
    return found
