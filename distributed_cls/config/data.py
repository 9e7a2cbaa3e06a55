"""Where the images come from and how they are prepared."""

import re
from dataclasses import dataclass

from distributed_cls.config import registry
from distributed_cls.config.section import Section, setting

_LONGEST_NAME = 128  # a folder's name has 255 bytes, with what tells data sets and unfinished ones apart


@dataclass
class DataConfig(Section):
    """Where the images come from and how they are prepared."""

    section = "data"

    name: str = setting("digits", "name of the data set; the first part of its prepared folder's name")
    source: str = setting("digits", "where the images come from", choices=registry.source_names)
    path: str | None = setting(None, "the images: path or URL; sources that are built in need none")
    image_size: int = setting(32, "edge of the square prepared images, pixels", at_least=8, at_most=2048)
    resize: str = setting(
        "stretch",
        "how an image becomes square: stretched, cropped at its centre, or padded with white",
        choices=("stretch", "crop", "pad"),
    )
    channels: str = setting(
        "auto",
        "colour channels of the prepared images: 1 (grey), 3 (red, green, blue), or auto: 1 when every image is grey",
        choices=("auto", "1", "3"),
    )
    split: list[float] = setting([0.7, 0.15, 0.15], "fractions of train, val and test; they sum to 1")
    split_salt: str = setting("", "text mixed into the hash that decides the split; change it for another split")
    seed: int = setting(0, "seed of the split and of the order in which classes are mixed in the shards")
    encoding: str = setting("png", "how a prepared image is stored", choices=("png", "jpeg", "raw"))
    jpeg_quality: int = setting(95, "quality of encoding=jpeg", at_least=1, at_most=100)
    shards: int | None = setting(
        None, "TFRecord shards of the train split; null: by size (shard_megabytes)", at_least=1
    )
    shard_megabytes: float = setting(64.0, "target size of a shard with shards=null, MB", above=0)
    min_edge: int = setting(8, "images with a shorter edge are rejected, pixels", at_least=1)
    max_pixels: int = setting(64_000_000, "images with more pixels are rejected before they are decoded", at_least=1)
    max_bytes: int = setting(64 * 2**20, "image files with more bytes are rejected unread", at_least=1)
    max_reject_fraction: float = setting(
        0.05, "maximum fraction of rejected images; more stop the run", at_least=0, at_most=1
    )
    near_duplicates: int | None = setting(
        24,
        "images whose perceptual hashes differ in at most this many of 256 bits stay in one split; mirrored ones "
        "too, within a class; null: off",
        at_least=0,
        at_most=24,
    )
    path_column: str = setting("path", "source=table, parquet, dataframe: column with the path of an image")
    label_column: str = setting("label", "source=table, parquet, dataframe: column with its class")
    split_column: str = setting(
        "split", "source=table, parquet, dataframe: column with train, val or test; may be missing"
    )
    bytes_column: str = setting("image", "source=parquet, dataframe: column with the encoded image")
    group_column: str | None = setting(
        None, "source=table, parquet, dataframe: column whose equal values keep images in one split; null: no groups"
    )
    group_pattern: str | None = setting(
        None,
        "regular expression over the path: images for which its first group, or without one all that it matches, is "
        "equal stay in one split; null: no groups",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.split = [float(part) for part in self.split]
        if len(self.split) != 3 or min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            self.refuse("split", self.split, "three fractions above 0 (train, val, test) that sum to 1")
        if not re.fullmatch(r"\w[\w.-]*", self.name) or len(self.name.encode()) > _LONGEST_NAME:
            expected = f"letters, digits, '.', '_' and '-', at most {_LONGEST_NAME} bytes (it names a folder)"
            self.refuse("name", self.name, expected)
        if self.path and re.match(r"\w+://[^/]*@", self.path):
            # The path is printed and saved; what stands before the @ must be neither.
            self.refuse(
                "path", "…@…", "a URL without credentials", "Set them in the environment, as the store expects."
            )
        self._check_groups()
        source = registry.source(self.source)
        if source is not None and source.needs_path and not self.path:
            self.refuse("path", self.path, source.expected_path, "Set data.path=/path/to/images.")

    @property
    def grouped(self) -> bool:
        """Whether images are in named groups."""
        return self.group_column is not None or self.group_pattern is not None

    def _check_groups(self) -> None:
        if self.group_pattern is None:
            return
        if self.group_column is not None:
            self.refuse("group_pattern", self.group_pattern, "null while data.group_column is set", "Keep one of them.")
        try:
            re.compile(self.group_pattern)
        except re.error as error:
            self.refuse("group_pattern", self.group_pattern, f"a regular expression ({error})")
