"""Grey stays grey: how many channels a prepared data set has, and that its bytes have as many."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index, manifest, tfrecord
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset import dataset_page, prepare, sources, verify
from distributed_cls.dataset.identity import identify
from distributed_cls.dataset.listing import Listing

from .conftest import Here
from .support import encoded, photo
from .test_preparation import configured

SIZE = 16


def pictures(root: Path, grey: int, colour: int = 0) -> Path:
    """Photos of two classes; the grey ones are saved as PNG by turns with one channel and with three equal ones.

    What is there already stays.
    """
    for name, offset in (("cat", 0), ("dog", 500)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(grey + colour):
            if (root / name / f"{number}.png").exists():
                continue
            image = Image.fromarray(photo(24, 20, offset + number))
            if number < grey:
                image = image.convert("L") if number % 2 else image.convert("L").convert("RGB")
            (root / name / f"{number}.png").write_bytes(encoded(image, "PNG"))
    return root


def prepared(here: Here, path: Path, root: Path, **settings: Any) -> Dataset:
    found = prepare.prepare(here.get, configured(path, **settings), str(root))
    verify.verify(found.path)
    return found


def stored(dataset: Dataset) -> dict[bytes, bytes]:
    """The image of every record by its key."""
    found = {}
    for shards in dataset.manifest.shards.values():
        for shard in shards:
            with Path(dataset.path, shard.file).open("rb") as stream:
                for record in tfrecord.read_frames(stream):
                    example = tfrecord.parse_example(record)
                    assert isinstance(example["key"], bytes) and isinstance(example["image"], bytes)
                    found[example["key"]] = example["image"]
    return found


def modes(dataset: Dataset) -> set[str]:
    return {Image.open(io.BytesIO(image)).mode for image in stored(dataset).values()}


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_grey_data_set_has_one_channel_in_every_file(here: Here, tmp_path: Path, encoding: str) -> None:
    folder = pictures(tmp_path / "in", grey=8)
    grey = prepared(here, folder, tmp_path / "out", encoding=encoding)
    colour = prepared(here, folder, tmp_path / "out", encoding=encoding, channels="3")
    assert (grey.manifest.channels, modes(grey)) == (1, {"L"})
    assert (colour.manifest.channels, modes(colour)) == (3, {"RGB"})
    assert grey.manifest.fingerprint != colour.manifest.fingerprint
    splits = [index.kept(index.of_dataset(d.path)).select(["path", "key", "split"]) for d in (grey, colour)]
    assert splits[0].equals(splits[1]), "the same images in the same splits"
    assert "pixels in grey" in Path(grey.path, manifest.PAGE_FILE).read_text()


def test_one_picture_with_colours_makes_a_data_set_of_three_channels(here: Here, tmp_path: Path) -> None:
    dataset = prepared(here, pictures(tmp_path / "in", grey=7, colour=1), tmp_path / "out")
    assert (dataset.manifest.channels, modes(dataset)) == (3, {"L", "RGB"})
    assert "pixels in colour" in Path(dataset.path, manifest.PAGE_FILE).read_text()


def test_colours_are_made_grey_where_that_is_asked_for(here: Here, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", grey=0, colour=8)
    dataset = prepared(here, folder, tmp_path / "out", channels="1", encoding="raw", image_size=20)
    assert dataset.manifest.channels == 1
    images = {np.frombuffer(image, np.uint8).tobytes() for image in stored(dataset).values()}
    wide = prepared(here, folder, tmp_path / "out", channels="3", encoding="raw", image_size=20)
    expected = [np.frombuffer(image, np.uint8).reshape(20, 20, 3) for image in stored(wide).values()]
    assert images == {np.asarray(Image.fromarray(image).convert("L")).tobytes() for image in expected}


def test_raw_images_have_the_bytes_of_their_data_set_when_colours_come_and_go(here: Here, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", grey=8), tmp_path / "out"
    first = prepared(here, folder, out, encoding="raw")
    assert {len(image) for image in stored(first).values()} == {SIZE * SIZE}
    pictures(folder, grey=8, colour=1)
    second = prepared(here, folder, out, encoding="raw")
    assert second.manifest.base == first.manifest.fingerprint
    assert here.decoded == 18, "the grey ones were taken over"
    assert {len(image) for image in stored(second).values()} == {SIZE * SIZE * 3}
    for key, image in stored(first).items():
        assert stored(second)[key] == np.repeat(np.frombuffer(image, np.uint8), 3).tobytes()
    for name in ("cat", "dog"):
        (folder / name / "8.png").unlink()
        (folder / name / "7.png").unlink()
    third = prepared(here, folder, out, encoding="raw")
    assert third.manifest.channels == 1
    assert stored(third).items() <= stored(first).items()
    tile = dataset_page._tile(next(iter(stored(third).values())), third.manifest)
    np.testing.assert_array_equal(tile[..., 0], tile[..., 2])


def test_what_an_earlier_release_prepared_stays_and_is_extended_with_three_channels(
    here: Here,
    tmp_path: Path,
) -> None:
    folder, out = pictures(tmp_path / "in", grey=8), tmp_path / "out"
    made = prepared(here, folder, out, channels="3")
    path = Path(made.path)
    # As the earlier release left it: no word on channels in the settings' hash, the manifest and the index.
    config = configured(folder)
    content = json.loads((path / manifest.FILE).read_text())
    identity = identify(config, _listing(folder, config))
    del content["channels"]
    changed = {"schema_version": 2, "source_digest": identity.digest, "lineage": identity.lineage}
    (path / manifest.FILE).write_text(json.dumps(content | changed))
    old = pq.read_table(path / index.FILE).drop_columns("grey")
    pq.write_table(old.replace_schema_metadata({b"distributed_cls.index.schema_version": b"2"}), path / index.FILE)
    here.decoded = 0
    again = prepared(here, folder, out)
    assert again.reused and again.path == made.path and again.manifest.channels == 3 and here.decoded == 0
    pictures(folder, grey=9)
    more = prepared(here, folder, out)
    assert more.manifest.base == made.manifest.fingerprint and more.manifest.channels == 3 and here.decoded == 2


def _listing(folder: Path, config: DataConfig) -> Listing:
    return sources.list_images(config, str(folder.parent / "out"))


def test_settings_that_came_later_change_no_hash_until_they_are_set(tmp_path: Path) -> None:
    config = configured(pictures(tmp_path / "in", grey=2))
    listing = _listing(Path(config.path or ""), config)
    assert identify(config, listing).digest != identify(dataclasses.replace(config, channels="1"), listing).digest
