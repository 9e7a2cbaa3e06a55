"""What decides a dataset's content, as hashes: settings, source and the listing of its images."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import Listing

# Raise it when the same images and settings would no longer give the same dataset.
CODE_VERSION = 4
_SEARCH_VERSION = 2  # 1 found no mirrored copies
# Where it lies and how it is cut into files change no record; whether too many are bad is asked again.
_NO_CONTENT = ("name", "path", "shards", "shard_megabytes", "max_reject_fraction")

# Settings that came later, with the value at which a data set from before them is still what is asked for.
_LATER = {"channels": "auto", "group_column": None, "group_pattern": None}


@dataclass(frozen=True)
class Identity:
    """What decides a dataset's content: ``lineage`` all but the list of images, ``digest`` all."""

    lineage: str
    digest: str


def digest_of(value: Any) -> str:
    """A short hash of JSON values, 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def identify(config: DataConfig, listing: Listing) -> Identity:
    """The identity of what this configuration makes of this listing. The number of ranks plays no part."""
    settings = {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in _NO_CONTENT and (name not in _LATER or value != _LATER[name])
    }
    if config.near_duplicates is not None:
        settings["near_duplicate_search"] = _SEARCH_VERSION
    lineage = digest_of([CODE_VERSION, settings, listing.root])
    return Identity(lineage, digest_of([CODE_VERSION, settings, listing.digest()]))
