"""data=table: a CSV or Parquet file with a path and a label per image, and perhaps a split."""

from collections.abc import Iterable
from pathlib import Path

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing, Rows
from distributed_cls.dataset.sources import columns
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.errors import UserError
from distributed_cls.storage.tabular import listed_path
from distributed_cls.storage.walk import stamp_of, walk
from distributed_cls.text import printable


def list_table(config: DataConfig, root: str) -> Listing:
    """Paths are absolute, or relative to the table's folder, or URLs that all lie in one bucket."""
    table = columns.read(root, config)
    folder = root.rsplit("/", 1)[0] or "/"
    written = columns.texts(table, config.path_column, root, "path").to_pylist()
    paths = [listed_path(folder, path, row, root) for row, path in enumerate(written)]
    url = next(filter(storage.is_url, paths), None)
    if url:
        folder = "/".join(url.split("/", 3)[:3])
        outside = next((path for path in paths if not path.startswith(folder + "/")), None)
        if outside:
            raise UserError(
                f"Expected all paths of the table to lie in {folder}. Received: {printable(outside)} in {root}. "
                "Use one table per bucket."
            )
        paths = [path[len(folder) + 1 :] for path in paths]
    rows = Rows()
    found = _statuses(folder, paths)
    labelled = columns.labels_and_splits(table, config, root)
    grouped = columns.groups(table, config)
    for path, (label, split), (size, stamp), group in zip(paths, labelled, found, grouped, strict=True):
        rows.add(path, label, size, stamp, split, group=group)
    return Listing(folder, rows.table())


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
    except (OSError, ValueError):  # ValueError: with a NUL in it
        return 0, 0


register(Source("table", list_table, "a table with a row per image", columns.REMEDY))
