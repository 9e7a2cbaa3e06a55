"""Where images come from: one file per kind of source, each of which registers itself.

A further source is a module here, or anywhere outside that calls ``register``, and a YAML file in conf/data/.
"""

import importlib
import pkgutil

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset import groups
from distributed_cls.dataset.listing import Listing
from distributed_cls.dataset.sources.source import SOURCES, Source, register
from distributed_cls.errors import UserError
from distributed_cls.storage.walk import ignored
from distributed_cls.text import printable

__all__ = ["SOURCES", "Source", "list_images", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def list_images(config: DataConfig, dataset_root: str) -> Listing:
    """List the configured source. Raises UserError: nothing there, no image, or a single class."""
    source = SOURCES[config.source]
    listing = source.list(config, _root(source, config, dataset_root))
    if listing.table.num_rows == 0:
        raise UserError(
            f"Expected {source.layout}. Received: data.path={config.path} without any image. {source.remedy}"
        )
    classes = listing.classes()
    if len(classes) < 2:
        raise UserError(
            f"Expected at least two classes. Received: data.path={config.path} with the single class "
            f"{printable(classes[0])}. {source.remedy}"
        )
    return groups.named(config, listing)


def _root(source: Source, config: DataConfig, dataset_root: str) -> str:
    if not source.needs_path:
        return dataset_root
    assert config.path, "DataConfig checks that a path is set"
    root = storage.absolute(config.path)
    storage.check_readable(root, "data.path")
    _check_apart(config, root, dataset_root)
    return root


def _check_apart(config: DataConfig, root: str, dataset_root: str) -> None:
    """A dataset below its own images would be taken for images by the next run."""
    below = dataset_root.removeprefix(f"{root.rstrip('/')}/")
    if dataset_root == root or (below != dataset_root and not any(map(ignored, below.split("/")))):
        raise UserError(
            f"Expected dataset_root outside data.path. Received: dataset_root={dataset_root}, data.path={config.path}. "
            "Set dataset_root to another folder."
        )
