"""Why an image is left out: the reasons of ``rejects.parquet``, and which of them say nothing lasting about a file."""

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

# What says nothing lasting about a file: another run may be able to read it. No run remembers these.
NOT_REMEMBERED = (UNREADABLE, UNSUPPORTED)
