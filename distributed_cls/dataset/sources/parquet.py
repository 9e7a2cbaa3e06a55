"""data=parquet: Parquet files that hold the encoded images in one column and their labels in another."""

import re

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import SPLIT_NAMES, Listing, Rows
from distributed_cls.dataset.sources import columns
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.storage.walk import walk

_ENDINGS = (".parquet", ".pq")
# Hugging Face datasets: train-00000-of-00002.parquet, or train-00000-of-00002-<hash>.parquet.
_PART = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")


def list_parquet(config: DataConfig, root: str) -> Listing:
    """One file, or all Parquet files below a folder. Without a split column, the file's name may give the split."""
    if root.lower().endswith(_ENDINGS):
        folder, _, name = root.rpartition("/")
        files = [entry for entry in walk(folder, recursive=False) if entry.parts == (name,)]
    else:
        folder = root
        files = sorted((e for e in walk(root) if e.parts[-1].lower().endswith(_ENDINGS)), key=lambda e: e.parts)
    rows = Rows()
    for entry in files:
        file = "/".join(entry.parts)
        table = columns.read(storage.join(folder, file), config, images=True)
        size = entry.size // max(1, table.num_rows)
        labelled = columns.labels_and_splits(table, config, file, split_of(entry.parts))
        grouped = zip(labelled, columns.groups(table, config), strict=True)
        for number, ((label, split), group) in enumerate(grouped):
            rows.add(file, label, size, entry.stamp, split, number, group)
    return Listing(folder, rows.table(), config.bytes_column)


def split_of(parts: tuple[str, ...]) -> int:
    """The split that a file's name, or the folder it lies in, stands for; -1 for none."""
    stem = _PART.sub("", parts[-1].rpartition(".")[0])
    folder = parts[-2].removeprefix("partial-") if len(parts) > 1 else ""
    found = [SPLIT_NAMES[name.lower()] for name in (stem, folder) if name.lower() in SPLIT_NAMES]
    return found[0] if found else -1


register(Source("parquet", list_parquet, "Parquet tables with a row per image", columns.REMEDY))
