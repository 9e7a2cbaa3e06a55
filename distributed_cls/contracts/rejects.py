"""Reasons for leaving an image out, as in ``rejects.parquet``, and which of them are no property of the file."""

EMPTY = "empty"
NOT_AN_IMAGE = "not_an_image"
UNSUPPORTED = "unsupported_format"  # an image, of a format that needs a package which is not installed
TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
TOO_MANY_PIXELS = "too_many_pixels"
TOO_MANY_BYTES = "too_many_bytes"
TOO_SMALL = "too_small"
MISSING = "missing"  # listed, and no file: a link to nowhere, a pipe, a row of a table without its file
UNREADABLE = "unreadable"  # a file whose bytes could not be had: no permission, a failing disk, a store's error
CONFLICT = "conflicting_labels"
DUPLICATE = "duplicate"
LEAK = "near_duplicate_in_another_split"
GROUP = "group_in_another_split"

# Another run may be able to read these: no run takes them over.
NOT_REMEMBERED = (UNREADABLE, UNSUPPORTED)
