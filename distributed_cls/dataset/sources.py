"""Where images come from: each kind of source becomes a ``Listing``."""

from collections.abc import Callable

from distributed_cls.config import DataConfig
from distributed_cls.dataset import builtin, manifest, storage, tables
from distributed_cls.dataset.listing import SPLIT_NAMES, Listing, Rows, class_name, split_number, walk
from distributed_cls.errors import UserError


def _folder(config: DataConfig, root: str) -> Listing:
    rows = Rows()
    for entry in walk(root):
        if len(entry.parts) > 1:
            rows.add("/".join(entry.parts), class_name(entry.parts[0]), entry.size, entry.stamp)
    return Listing(root, rows.table())


def _split_folder(config: DataConfig, root: str) -> Listing:
    rows = Rows()
    for entry in walk(root):
        if len(entry.parts) < 3:
            continue
        first, second = entry.parts[0], entry.parts[1]
        if first.lower() in SPLIT_NAMES:
            split, label = first, second
        elif second.lower() in SPLIT_NAMES:
            split, label = second, first
        else:
            raise UserError(
                f"Expected {_layout(config)}. Received: {'/'.join(entry.parts)} in data.path={config.path}. "
                "Set data=folder for images without a split."
            )
        rows.add("/".join(entry.parts), class_name(label), entry.size, entry.stamp, split_number(split, root))
    return Listing(root, rows.table())


_READERS: dict[str, Callable[[DataConfig, str], Listing]] = {
    "digits": _folder,
    "fashion_mnist": _folder,
    "folder": _folder,
    "split_folder": _split_folder,
    "table": tables.list_table,
    "parquet": tables.list_parquet,
}


def list_images(config: DataConfig, dataset_root: str) -> Listing:
    """List the configured source. Raises UserError: nothing there, no image, or a single class."""
    if config.source in builtin.BUILTIN:
        root = builtin.ensure(config.source, dataset_root)
    else:
        assert config.path, "DataConfig checks that a path is set"
        root = storage.absolute(config.path)
        if not storage.exists(root):
            raise UserError(
                f"Expected data.path to be an existing folder, file or URL. Received: data.path={config.path}. "
                "Set data.path=/path/to/images."
            )
    listing = _READERS[config.source](config, root)
    if listing.table.num_rows == 0:
        raise UserError(
            f"Expected {_layout(config)}. Received: data.path={config.path} without any image. "
            "Set data.path to the folder above the class folders."
        )
    classes = listing.classes()
    if len(classes) < 2:
        raise UserError(
            f"Expected at least two classes. Received: data.path={config.path} with the single class {classes[0]}. "
            "Set data.path to the folder above the class folders, or add another class."
        )
    return listing


def _layout(config: DataConfig) -> str:
    if config.source == "folder":
        return "a folder with one sub-folder of images per class"
    if config.source == "split_folder":
        return f"a folder with {', '.join(manifest.SPLITS)} inside or outside its class folders"
    return "a table with a row per image"
