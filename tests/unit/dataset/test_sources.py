"""Listing: what counts as an image, how it is named, and what a million of them cost."""

import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from distributed_cls.config import DataConfig
from distributed_cls.dataset import listing, sources
from distributed_cls.errors import UserError

from .support import PEAK

MILLION = (
    PEAK
    + """
import sys
from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.dataset import identity, listing_checks, shard_plan, sources
from distributed_cls.dataset.sources import class_folders
from distributed_cls.storage.walk import Entry

def walk(root, recursive=True, omitted=None):
    for number in range(1_000_000):
        name = f"a_file_name_of_usual_length_{number:08d}.jpg"
        yield Entry((f"class_{number % 1000:04d}", name), 50_000, 1_700_000_000_000_000_000 + number)

class_folders.walk = walk
config = DataConfig(source="folder", path=sys.argv[1])
listed = sources.list_images(config, "")
listing_checks.check(config, listed)
identity.identify(config, listed)
parts = shard_plan.decode_parts(index.missing(listed.table, index.SCHEMA.empty_table()), 8)
assert sum(part.images for part in parts) == 1_000_000
print(peak_megabytes())
"""
)


def config(path: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(path))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_million_paths_fit_into_a_gigabyte(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MILLION, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024, f"{done.stdout} MB"


def test_hidden_and_system_files_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/deep/2.png", "b/3", "a/.DS_Store", "b/Thumbs.db", ".git/x/y.png", "top.png")
    listed = sources.list_images(config(tmp_path), "").table
    assert listed["path"].to_pylist() == ["a/1.png", "a/deep/2.png", "b/3"]
    assert listed["label"].to_pylist() == ["a", "a", "b"]


def test_what_is_left_out_beside_pictures_is_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    thumbnails = [f"Audi/@eaDir/{number}.png/SYNOPHOTO_THUMB_S.jpg" for number in range(3)]
    touch(tmp_path / "nas", "Audi/1.png", *thumbnails, "Audi/Thumbs.db", "bmw/2.png", "bmw/.DS_Store")
    assert sources.list_images(config(tmp_path / "nas"), "").table["path"].to_pylist() == ["Audi/1.png", "bmw/2.png"]
    [line] = caplog.messages
    told, _, example = line.rpartition(", for example ")
    assert told.endswith("and what systems and tools leave among pictures, are not read: 3"), "a folder counts once"
    assert example in ("Audi/@eaDir", "Audi/Thumbs.db", "bmw/.DS_Store")
    caplog.clear()
    touch(tmp_path / "clean", "a/1.png", "b/2.png")
    sources.list_images(config(tmp_path / "clean"), "")
    assert caplog.messages == []


def test_a_layout_with_splits_is_not_taken_for_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "outside/Train/cat/1.png", "outside/val/cat/2.png", "outside/test/dog/3.png")
    with pytest.raises(UserError, match=r"with only Train, test, val\. Set data=split_folder"):
        sources.list_images(config(tmp_path / "outside"), "")
    touch(tmp_path, "inside/cat/train/1.png", "inside/cat/test/2.png", "inside/dog/test/3.png", "inside/dog/4.png")
    assert sources.list_images(config(tmp_path / "inside"), "").table.num_rows == 4
    assert "The folders test, train inside the class folders are ignored" in caplog.text
    caplog.clear()
    touch(tmp_path, "other/cat/train/1.png", "other/cat/bus/2.png", "other/test/3.png")
    assert sources.list_images(config(tmp_path / "other"), "").classes() == ["cat", "test"]
    assert "are ignored" not in caplog.text


@pytest.mark.parametrize(("below", "fine"), [("", False), ("/out", False), ("/.out", True), ("-out", True)])
def test_a_dataset_does_not_lie_among_its_images(tmp_path: Path, below: str, fine: bool) -> None:
    touch(tmp_path / "in", "cat/1.png", "dog/2.png")
    if fine:
        assert sources.list_images(config(tmp_path / "in"), f"{tmp_path}/in{below}").table.num_rows == 2
        return
    with pytest.raises(UserError, match="Expected dataset_root outside"):
        sources.list_images(config(tmp_path / "in"), f"{tmp_path}/in{below}")


def test_files_that_are_not_read_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    touch(tmp_path, "cat/train/1.png", "dog/test/2.png", "cat/loose.png", "README.txt")
    sources.list_images(DataConfig(source="split_folder", path=str(tmp_path)), "")
    assert "are not read: 2, for example README.txt" in caplog.text
    caplog.clear()
    sources.list_images(config(tmp_path), "")
    assert "Files outside the class folders are not read: 1, for example README.txt" in caplog.text


def test_class_names_are_one_spelling_whatever_the_file_system(tmp_path: Path) -> None:
    touch(tmp_path, unicodedata.normalize("NFD", "Citroën") + "/1.png", "Citroën/2.png", "狗/3.png", "Zebra/4.png")
    assert sources.list_images(config(tmp_path), "").classes() == ["Citroën", "Zebra", "狗"]


def test_the_digest_sees_every_change(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(5)))
    seen = set()
    for change in ("nothing", "add", "grow", "touch", "rename", "remove"):
        file = tmp_path / "a" / "1.png"
        if change == "add":
            touch(tmp_path, "a/9.png")
        elif change == "grow":
            file.write_bytes(b"xx")
        elif change == "touch":
            os.utime(file, ns=(1, 1))
        elif change == "rename":
            file.rename(tmp_path / "a" / "renamed.png")
        elif change == "remove":
            (tmp_path / "b" / "3.png").unlink()
        digest = sources.list_images(config(tmp_path), "").digest()
        assert digest == sources.list_images(config(tmp_path), "").digest()
        seen.add(digest)
    assert len(seen) == 6


def test_a_moved_folder_is_the_same_listing(tmp_path: Path) -> None:
    touch(tmp_path, "one/a/1.png", "one/b/2.png")
    before = sources.list_images(config(tmp_path / "one"), "").digest()
    (tmp_path / "one").rename(tmp_path / "two")
    assert sources.list_images(config(tmp_path / "two"), "").digest() == before


def test_rows_are_sorted_and_chunks_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_CHUNK", 3)
    rows = listing.Rows()
    for number in (5, 3, 9, 1, 0, 7, 2):
        rows.add(f"{number}", "x", number, 0)
    assert rows.table()["size"].to_pylist() == [0, 1, 2, 3, 5, 7, 9]


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="without credentials") as caught:
        DataConfig(source="folder", path="s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)


def test_unknown_split_names_are_told() -> None:
    assert [listing.split_number(name, "t") for name in ("Train", "valid", "TEST", "", None)] == [0, 1, 2, -1, -1]
    with pytest.raises(UserError, match="Received: holdout in t"):
        listing.split_number("holdout", "t")


def test_a_source_from_outside_is_one_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_pairs(config: DataConfig, root: str) -> listing.Listing:
        rows = listing.Rows()
        for number in range(4):
            rows.add(f"{number}.png", "ab"[number % 2], 1, number)
        return listing.Listing(root, rows.table())

    monkeypatch.setattr(sources.source, "SOURCES", dict(sources.SOURCES))
    monkeypatch.setattr(sources, "SOURCES", sources.source.SOURCES)
    sources.register(sources.Source("pairs", list_pairs, "pairs of pictures", "Make some."))
    wanted = config(tmp_path)
    wanted.source = "pairs"
    found = sources.list_images(wanted, str(tmp_path) + "-out")
    assert found.classes() == ["a", "b"] and found.root == str(tmp_path)
    wanted.path = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        sources.list_images(wanted, str(tmp_path) + "-out")
