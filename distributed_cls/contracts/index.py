"""The index: one row per listed image with what became of it. In memory an Arrow table, on disk Parquet.

Parts (what a decoding task leaves in the work folder) and finished datasets carry the same index, so that either can
tell a later run which images need no decoding again, and where their prepared bytes lie.
"""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distributed_cls import storage
from distributed_cls.contracts import rejects
from distributed_cls.errors import UserError

# 1 (not written down): "unreadable" also meant that there was no file, and was remembered.
# 2 had no groups, and did not tell which images are grey: those columns are null.
SCHEMA_VERSION = 3
_VERSION_KEY = b"distributed_cls.index.schema_version"
FILE = "index.parquet"
REJECTS_FILE = "rejects.parquet"  # of the index, the rows and columns that tell why an image is left out
IDENTITY = ["path", "row", "size", "stamp"]  # as long as these stay, a file's content is taken to stay
KEY_BYTES = 16
HASH_BYTES = 32

LISTING_SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # of the file, relative to the root
        ("row", pa.int64()),  # row inside the file, where a file holds many images; -1 otherwise
        ("label", pa.string()),
        ("size", pa.int64()),  # bytes
        ("stamp", pa.int64()),  # changes when the file changes: modification time, ns, or a hash of the ETag
        ("split", pa.int8()),  # index into manifest.SPLITS where the source gives it; -1 otherwise
        ("group", pa.string()),  # images of one group share a split; null for none
    ]
)

SCHEMA = pa.schema(
    [
        *LISTING_SCHEMA,
        ("reason", pa.string()),  # why it is left out; null for an image that is kept
        ("detail", pa.string()),
        ("key", pa.binary(KEY_BYTES)),  # hash of the prepared pixels; null without pixels
        ("hash", pa.binary(HASH_BYTES)),  # perceptual hash; null without pixels
        ("grey", pa.bool_()),  # whether the prepared pixels are grey; null without pixels
        ("width", pa.int32()),  # of the original, pixels
        ("height", pa.int32()),
        ("format", pa.string()),
        ("file", pa.string()),  # where the prepared image lies: file, first byte, bytes; null when it was not stored
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


def write(path: str, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all, with the schema version in the file's metadata."""
    versioned = {**(table.schema.metadata or {}), _VERSION_KEY: str(SCHEMA_VERSION).encode()}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(versioned), stream, compression="zstd")
    storage.write_bytes(path, stream.getvalue())


def read(path: str) -> pa.Table:
    """Read a table of ``write``. Raises UserError for one of a later schema version."""
    table = pq.read_table(io.BytesIO(storage.read_bytes(path)))
    metadata = dict(table.schema.metadata or {})
    version = int(metadata.pop(_VERSION_KEY, b"1"))
    if version > SCHEMA_VERSION:
        raise UserError(
            f"Expected an index of schema version {SCHEMA_VERSION} or earlier. Received: {path} has version {version}. "
            "Use the release that wrote it, or delete its folder and prepare the data again."
        )
    table = table.replace_schema_metadata(metadata or None)
    is_index = "hash" in table.schema.names
    for place, field in enumerate(SCHEMA):
        if is_index and field.name not in table.schema.names:  # of an earlier version
            table = table.add_column(place, field, pa.nulls(table.num_rows, field.type))
    return table


def of_dataset(folder: str, name: str = FILE) -> pa.Table:
    """A table of a finished dataset. Raises UserError when it is missing or damaged."""
    try:
        return read(storage.join(folder, name))
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        found = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise UserError(
            f"Expected {name} of a prepared dataset. Received: {storage.join(folder, name)} {found}. "
            f"Delete {folder} and prepare the data again."
        ) from None


def to_bytes(table: pa.Table) -> bytes:
    """A table as one message, to travel to a task."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(message: bytes) -> pa.Table:
    """The table in a message of ``to_bytes``."""
    return pa.ipc.open_stream(message).read_all()


def kept(table: pa.Table) -> pa.Table:
    """The rows of the images that are in the dataset: those without a reason to leave them out."""
    return table.filter(pc.is_null(table["reason"]))


def all_grey(kept: pa.Table) -> bool:
    """Whether every image of these rows is known to be grey."""
    return bool(pc.all(pc.fill_null(kept["grey"], False), min_count=0).as_py())


def _may_pass(table: pa.Table) -> pa.ChunkedArray:
    """Which rows have an outcome that is no property of the image, bool [n]."""
    return pc.is_in(table["reason"], pa.array(rejects.NOT_REMEMBERED))


def remembered(known: pa.Table) -> pa.Table:
    """The rows that another run may take over: those whose outcome is a property of the image."""
    return known.filter(pc.invert(_may_pass(known)))


def missing(listed: pa.Table, known: pa.Table) -> pa.Table:
    """The rows of a listing that are not in ``known``, in the listing's order."""
    if known.num_rows == 0:
        return listed
    rest = listed.join(known.select(IDENTITY), IDENTITY, join_type="left anti")
    return rest.select(LISTING_SCHEMA.names).sort_by([("path", "ascending"), ("row", "ascending")])


def describe(listed: pa.Table, known: pa.Table) -> pa.Table:
    """The listing with the facts of each row in ``known``; label and split are the listing's. Sorted by path and row.

    Where two runs decoded the same image, one of the two equal answers is taken, and rather one that is remembered.
    """
    known = pa.concat_tables([remembered(known), known.filter(_may_pass(known))])
    facts = [name for name in SCHEMA.names if name not in LISTING_SCHEMA.names]
    known = known.select([*IDENTITY, *facts])
    first = known.append_column("n", pa.array(range(known.num_rows), pa.int64()))
    first = first.group_by(IDENTITY).aggregate([("n", "min")])["n_min"]
    table = listed.join(known.take(first.sort()), IDENTITY, join_type="inner")
    return table.select(SCHEMA.names).cast(SCHEMA).sort_by([("path", "ascending"), ("row", "ascending")])
