"""What a source of images is, and the list of those that there are."""

from collections.abc import Callable
from dataclasses import dataclass

from distributed_cls.config import DataConfig
from distributed_cls.config.registry import SourceSpec, register_source
from distributed_cls.dataset.listing import Listing


@dataclass(frozen=True)
class Source:
    """A kind of place that images come from; its module registers it with ``register``.

    list(config, root): the images. ``root`` is the absolute data.path when ``needs_path``, else the folder of all
    prepared datasets, below which a source may keep what it has downloaded.
    layout and remedy: for messages, "Expected <layout>. … <remedy>".
    """

    name: str
    list: Callable[[DataConfig, str], Listing]
    layout: str
    remedy: str
    needs_path: bool = True


SOURCES: dict[str, Source] = {}


def register(source: Source) -> None:
    """Make ``source`` a choice of data.source."""
    register_source(SourceSpec(source.name, source.needs_path, source.layout, source.list.__module__))
    SOURCES[source.name] = source
