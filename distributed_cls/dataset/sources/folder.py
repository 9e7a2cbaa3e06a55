"""data=folder: one sub-folder of images per class, nested at will below it."""

import logging

from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import SPLIT_NAMES, Listing, Rows
from distributed_cls.dataset.sources import class_folders
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.errors import UserError
from distributed_cls.text import class_name

log = logging.getLogger(__name__)


def list_folder(config: DataConfig, root: str) -> Listing:
    """The class of an image is the folder below ``root`` that it lies in."""
    rows = Rows()
    loose: list[str] = []
    names: set[str] = set()
    inner: set[str] = set()
    for entry in class_folders.image_files(root):
        if len(entry.parts) == 1:
            loose.append(entry.parts[0])
            continue
        rows.add("/".join(entry.parts), class_name(entry.parts[0]), entry.size, entry.stamp)
        names.add(entry.parts[0])
        if len(entry.parts) > 2 and len(inner) <= len(SPLIT_NAMES):
            inner.add(entry.parts[1].lower())
    class_folders.warn_of_empty_folders(root, names)
    class_folders.warn_of_foreign_names(names)
    _check_no_splits(config, sorted(names), inner)
    class_folders.log_unread(loose, "outside the class folders")
    return Listing(root, rows.table())


def _check_no_splits(config: DataConfig, names: list[str], inner: set[str]) -> None:
    if len(names) > 1 and all(name.lower() in SPLIT_NAMES for name in names):
        raise UserError(
            f"Expected the sub-folders of data.path to be classes. Received: data.path={config.path} with only "
            f"{', '.join(names)}. Set data=split_folder."
        )
    if len(inner) > 1 and inner <= SPLIT_NAMES.keys():
        log.warning(
            "The folders %s inside the class folders are ignored: data=split_folder makes them splits",
            ", ".join(sorted(inner)),
        )


register(Source("folder", list_folder, "a folder with one sub-folder of images per class", class_folders.REMEDY))
