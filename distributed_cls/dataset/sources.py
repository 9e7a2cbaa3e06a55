"""Where images come from: each kind of source becomes a ``Listing``."""

import logging
from collections.abc import Callable

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.contracts import manifest
from distributed_cls.dataset import built_in, tables
from distributed_cls.dataset.listing import SPLIT_NAMES, Listing, Rows, class_name, split_number
from distributed_cls.errors import UserError
from distributed_cls.storage.walk import ignored, walk
from distributed_cls.text import printable

log = logging.getLogger(__name__)


def _folder(config: DataConfig, root: str) -> Listing:
    rows = Rows()
    loose: list[str] = []
    inner: set[str] = set()
    for entry in walk(root):
        if len(entry.parts) > 1:
            rows.add("/".join(entry.parts), class_name(entry.parts[0]), entry.size, entry.stamp)
            if len(entry.parts) > 2 and len(inner) <= len(SPLIT_NAMES):
                inner.add(entry.parts[1].lower())
        else:
            loose.append(entry.parts[0])
    listing = Listing(root, rows.table())
    classes = listing.classes()
    if len(classes) > 1 and all(name.lower() in SPLIT_NAMES for name in classes):
        raise UserError(
            f"Expected the sub-folders of data.path to be classes. Received: data.path={config.path} with only "
            f"{', '.join(classes)}. Set data=split_folder."
        )
    if len(inner) > 1 and inner <= SPLIT_NAMES.keys():
        log.warning(
            "The folders %s inside the class folders mean nothing here: data=split_folder makes them splits",
            ", ".join(sorted(inner)),
        )
    _tell_ignored(loose, "outside the class folders")
    return listing


def _split_folder(config: DataConfig, root: str) -> Listing:
    rows = Rows()
    loose: list[str] = []
    for entry in walk(root):
        if len(entry.parts) < 3:
            loose.append("/".join(entry.parts))
            continue
        first, second = entry.parts[0], entry.parts[1]
        if first.lower() in SPLIT_NAMES:
            split, label = first, second
        elif second.lower() in SPLIT_NAMES:
            split, label = second, first
        else:
            raise UserError(
                f"Expected {_layout(config)}. Received: {printable('/'.join(entry.parts))} in data.path={config.path}. "
                "Set data=folder for images without a split."
            )
        rows.add("/".join(entry.parts), class_name(label), entry.size, entry.stamp, split_number(split, root))
    _tell_ignored(loose, "outside a class folder of a split")
    return Listing(root, rows.table())


def _tell_ignored(files: list[str], where: str) -> None:
    if files:
        log.info("Files %s are not read: %d, for example %s", where, len(files), printable(min(files)))


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
    if config.source in built_in.BUILTIN:
        root = built_in.ensure(config.source, dataset_root)
    else:
        assert config.path, "DataConfig checks that a path is set"
        root = storage.absolute(config.path)
        storage.check_readable(root, "data.path")
        if config.source != "table":
            _check_apart(config, root, dataset_root)
    listing = _READERS[config.source](config, root)
    if listing.table.num_rows == 0:
        raise UserError(
            f"Expected {_layout(config)}. Received: data.path={config.path} without any image. {_remedy(config)}"
        )
    classes = listing.classes()
    if len(classes) < 2:
        raise UserError(
            f"Expected at least two classes. Received: data.path={config.path} with the single class "
            f"{printable(classes[0])}. {_remedy(config)}"
        )
    return listing


def _check_apart(config: DataConfig, root: str, dataset_root: str) -> None:
    """A dataset below its own images would be taken for images by the next run."""
    below = dataset_root.removeprefix(f"{root.rstrip('/')}/")
    if dataset_root == root or (below != dataset_root and not any(map(ignored, below.split("/")))):
        raise UserError(
            f"Expected dataset_root outside data.path. Received: dataset_root={dataset_root}, data.path={config.path}. "
            "Set dataset_root to another folder."
        )


def _layout(config: DataConfig) -> str:
    if config.source == "folder":
        return "a folder with one sub-folder of images per class"
    if config.source == "split_folder":
        return f"a folder with {', '.join(manifest.SPLITS)} inside or outside its class folders"
    return "a table with a row per image"


def _remedy(config: DataConfig) -> str:
    if config.source in ("table", "parquet"):
        return "Set data.path to a table with the images of two classes or more."
    return "Set data.path to the folder above two class folders or more."
