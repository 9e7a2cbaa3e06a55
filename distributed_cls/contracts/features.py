"""The features of a data set: what a frozen backbone gives for each of its images, stored as a data set of its own.

    <data set>/features/<digest of the origin>/features.json, train-00000-of-00008-00000000.1f0c2b7a.tfrecord, …

A shard of images has one or several of features, which follow each other. Record k of a split is that of its image k
with its float32 [D] vector in the place of the image; in the train split [V, D], where V augmented views of it are
stored. ``features.json`` is written last: without it there is nothing.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import codec, manifest
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.manifest import Manifest, Shard
from distributed_cls.errors import UserError

SCHEMA_VERSION = 1
FOLDER = "features"  # in the folder of the data set
FILE = "features.json"
BLOCK = 32  # images that a backbone computes at once; the views of a training image depend on its place among them
# Settings of a model that its backbone's output for an image does not depend on. The weights have a checksum.
_OF_NO_MATTER = ("weights", "freeze_backbone", "fine_tune_from", "feature_cache", "feature_views", "dropout")
# Settings of training that make the views of an image.
_OF_VIEWS = ("augment", "flip", "shift", "randaugment_changes", "randaugment_magnitude", "erase", "seed")


@dataclass(frozen=True)
class Origin:
    """All that decides the features: two origins with the same digest have the same."""

    dataset: str  # fingerprint
    model: dict[str, Json]  # settings of the backbone
    weights: str  # SHA-256 of the file that the backbone begins from
    keras: str  # version: it brings the networks
    views: int = 1  # of a training image
    augmentation: dict[str, Json] = field(default_factory=dict)  # settings and seed; without it there is one view

    @classmethod
    def of(cls, dataset: str, config: Config, weights: str, keras: str) -> "Origin":
        """The origin of the features for a training with its settings."""
        plain = codec.to_plain(config.model)
        model = {name: value for name, value in plain.items() if name not in _OF_NO_MATTER}
        train = {name: getattr(config.train, name) for name in _OF_VIEWS if config.train.augments}
        return cls(dataset, model, weights, keras, config.feature_views, train)

    @property
    def digest(self) -> str:
        """Sixteen digits that name it."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **codec.to_plain(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Features:
    """What ``features.json`` holds."""

    origin: Origin
    length: int  # D, of each vector
    shards: dict[str, list[Shard]]  # split → its files, in the order of the images


@dataclass(frozen=True)
class Images:
    """Images of a shard that one task computes: ``records`` of them from record ``start`` on."""

    split: str
    first: int  # number of the first one in its split
    shard: Shard
    start: int
    records: int

    @classmethod
    def all_of(cls, content: Manifest, tasks: int = 1) -> "list[Images]":
        """The images of a data set in their order, for about ``tasks`` tasks: whole shards, or parts of them.

        A part has whole blocks (``BLOCK``), so that what is stored does not depend on the number of tasks.
        """
        every = [(split, shard) for split in manifest.SPLITS for shard in content.shards[split]]
        size = math.ceil(sum(shard.records for _, shard in every) / tasks / BLOCK) * BLOCK
        found, first = [], dict.fromkeys(manifest.SPLITS, 0)
        for split, shard in every:
            starts = range(0, shard.records, size)
            found += [
                cls(split, first[split] + start, shard, start, min(size, shard.records - start)) for start in starts
            ]
            first[split] += shard.records
        return found

    @property
    def stem(self) -> str:
        """How the file with their features begins."""
        return f"{self.shard.file.removesuffix('.tfrecord')}-{self.start:08d}"


@dataclass(frozen=True)
class FeatureJob:
    """What every task needs that computes features; ``digest`` of the origin tells jobs apart."""

    digest: str
    dataset: str  # folder or URL of the images
    target: str  # folder or URL of the features
    weights: str  # the file that the backbone begins from, as every executor sees it
    config: Config = field(compare=False)  # not hashable


@dataclass(frozen=True)
class WrittenFeatures:
    """What became of a task's images; ``refused``: why it is none, for the user."""

    shard: Shard | None = None
    length: int = 0
    refused: str = ""


def file_name(images: Images, token: str) -> str:
    """The file with the features of images. Each writer has a ``token`` of its own, and so a file of its own."""
    return f"{images.stem}.{token}.tfrecord"


def write(folder: str, features: Features) -> None:
    """Write ``features.json``: with it, the folder has the features."""
    content = {"schema_version": SCHEMA_VERSION, **codec.to_plain(features)}
    storage.write_text(storage.join(folder, FILE), codec.dumps(content, indent=1) + "\n")


def load(folder: str) -> Features:
    """Read ``features.json`` in ``folder`` and check that every shard is there at its size.

    Raises UserError: no file, a damaged one, one of a newer release, a shard missing or of another size.
    """
    remedy = f"Remove {folder}: the next run computes the features again."
    content = storage.read_json(storage.join(folder, FILE), "the features of a data set", remedy)
    try:
        codec.take_version(content, SCHEMA_VERSION)
        features = codec.from_plain(Features, content)
        absent = [split for split in manifest.SPLITS if split not in features.shards]
        if absent:
            raise ValueError(f"no shards of {', '.join(absent)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Expected the features of a data set in {folder}. Received: {error}. {remedy}") from None
    for shards in features.shards.values():
        for shard in shards:
            manifest.check_size(folder, shard)
    return features


def exists(folder: str) -> bool:
    """Whether there is a ``features.json``, whole or not."""
    return storage.exists(storage.join(folder, FILE))
