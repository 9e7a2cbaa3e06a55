"""Shared by the sources that read folders of image files: the walk, and messages about files that are not read."""

import logging
from collections.abc import Iterator

from distributed_cls import storage
from distributed_cls.errors import UserError
from distributed_cls.storage.walk import Entry, Omitted, ignored, walk
from distributed_cls.text import class_name, printable, to_file_name

log = logging.getLogger(__name__)

REMEDY = "Set data.path to the folder above two class folders or more."
# Files that only this program writes, and what they are a sign of.
_OWN_FILES = {"metrics.jsonl": "a run folder", "launch.log": "a run folder", "index.parquet": "a prepared data set"}


def image_files(root: str) -> Iterator[Entry]:
    """The files below a folder, each a presumed image. Raises UserError when results of this program are among them."""
    omitted = Omitted()
    for entry in walk(root, omitted=omitted):
        if entry.parts[-1] in _OWN_FILES:
            raise UserError(
                f"Expected only images below data.path. Received: {_OWN_FILES[entry.parts[-1]]}, "
                f"{printable('/'.join(entry.parts[:-1]) or '.')}, in {root}. "
                "Move it out of data.path, or set data.path to the folder of the class folders alone."
            )
        yield entry
    if omitted.junk:
        log.info(
            "Hidden files, and what systems and tools leave among pictures, are not read: %d, for example %s",
            omitted.junk,
            printable(omitted.junk_example),
        )
    if omitted.loops:
        log.warning(
            "Links that lead back to a folder above them are not followed: %d, for example %s",
            omitted.loops,
            printable(omitted.loop_example),
        )


def log_unread(files: list[str], where: str) -> None:
    """One line on the files that lie where no image is looked for."""
    if files:
        log.info("Files %s are not read: %d, for example %s", where, len(files), printable(min(files)))


def warn_of_empty_folders(root: str, names: set[str]) -> None:
    """One line on the class folders without images: they make no class. names: the folders that have some."""
    if storage.is_url(root):
        return  # a store has no empty folders
    folders = (name for name in storage.names(root) if not ignored(name) and name not in names)
    empty = [name for name in folders if storage.local(storage.join(root, name)).is_dir()]
    if empty:
        log.warning("Folders without images make no class: %d, for example %s", len(empty), printable(empty[0]))


def warn_of_foreign_names(names: set[str]) -> None:
    """One line on class folders whose names had to be read as Windows-1252."""
    foreign = [name for name in names if to_file_name(name) != name]
    if foreign:
        log.warning(
            "Names of class folders that are not UTF-8 are read as Windows-1252: %d, for example %s as %s",
            len(foreign),
            printable(foreign[0]),
            class_name(foreign[0]),
        )
