"""data=table: a CSV or Parquet file with a path and a label per image, and perhaps a split."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing, Rows
from distributed_cls.dataset.sources import columns
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.errors import UserError
from distributed_cls.storage.walk import stamp_of, walk
from distributed_cls.text import printable

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def list_table(config: DataConfig, root: str) -> Listing:
    """Paths are absolute, or relative to the table's folder, or URLs that all lie in one bucket."""
    table = columns.read(root, config)
    folder = root.rsplit("/", 1)[0] or "/"
    paths = columns.texts(table, config.path_column, root, "path").to_pylist()
    if paths and storage.is_url(paths[0]):
        folder = "/".join(paths[0].split("/", 3)[:3])
        outside = next((path for path in paths if not path.startswith(folder + "/")), None)
        if outside:
            raise UserError(
                f"Expected all paths of the table to lie in {folder}. Received: {outside} in {root}. "
                "Use one table per bucket."
            )
        paths = [path[len(folder) + 1 :] for path in paths]
    elif not storage.is_url(folder):
        paths = [_local(folder, path, row, root) for row, path in enumerate(paths)]
    rows = Rows()
    found = _statuses(folder, paths)
    labelled = columns.labels_and_splits(table, config, root)
    for path, (label, split), (size, stamp) in zip(paths, labelled, found, strict=True):
        rows.add(path, label, size, stamp, split)
    return Listing(folder, rows.table())


def _local(folder: str, path: str, row: int, file: str) -> str:
    """A path as this machine writes it: without file://, with slashes, unless a file is really called as it stands."""
    if _DRIVE.match(path):
        raise UserError(
            f"Expected paths of this machine. Received: {printable(path)} in row {row} of {file}, "
            "a path of Windows. Write the paths relative to the table's folder, with / or \\."
        )
    if path.startswith("file:"):
        path = storage.plain(path)
        return unquote(path) if "%" in path and not _is_there(folder, path) else path
    if "\\" in path and not _is_there(folder, path):
        return path.replace("\\", "/")
    return path


def _is_there(folder: str, path: str) -> bool:
    return storage.local(folder).joinpath(storage.local(path)).exists()


def _statuses(folder: str, paths: list[str]) -> Iterable[tuple[int, int]]:
    """(bytes, stamp) of each file; zeros for one that cannot be looked at: reading it names the cause."""
    if not storage.is_url(folder):
        base = storage.local(folder)
        return (_local_status(base.joinpath(storage.local(path))) for path in paths)
    wanted = set(paths)
    parents = {path.rpartition("/")[0] for path in paths}
    known = {}
    for parent in sorted(parents):
        for entry in walk(storage.join(folder, parent) if parent else folder, recursive=False):
            path = storage.join(parent, entry.parts[0]) if parent else entry.parts[0]
            if path in wanted:
                known[path] = (entry.size, entry.stamp)
    return (known.get(path, (0, 0)) for path in paths)


def _local_status(path: Path) -> tuple[int, int]:
    try:
        return stamp_of(path.stat())
    except OSError:
        return 0, 0


register(Source("table", list_table, "a table with a row per image", columns.REMEDY))
