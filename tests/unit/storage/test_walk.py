"""What is found below a folder: links, names that are no text, and what systems and tools leave among pictures."""

import os
from pathlib import Path

import pytest

from distributed_cls import storage
from distributed_cls.storage.walk import Omitted, ignored, walk


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(root: Path, omitted: Omitted | None = None) -> list[str]:
    return sorted("/".join(entry.parts) for entry in walk(str(root), omitted=omitted))


JUNK = [
    *("@eaDir/000.png/SYNOPHOTO_THUMB_S.jpg", "#recycle/x.png", "x/@eaDir/y.jpg", "SYNOPHOTO_THUMB_M.jpg"),
    *(".AppleDouble/1.png", "__MACOSX/cat/._1.png", "._1.png", ".DS_Store", "Icon\r"),
    *("Thumbs.db", "ehthumbs_vista.db", "desktop.ini", "$RECYCLE.BIN/1.png", "System Volume Information/x"),
    *(".thumbnails/normal/1.png", "lost+found/1.png", "FOUND.000/FILE0001.png", ".Trash-1000/files/1.png"),
    *("Cars Previews.lrdata/1.png", "Cars.lrcat", "Picasa.ini", ".picasaoriginals/1.png", "iPod Photo Cache/x.png"),
    *("@Recycle/1.png", "@__thumb/1.png", "_gsdata_/1.png", "AlbumArt_{123}_Large.jpg", ".hidden.png"),
]


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_and_tools_leave_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"Audi/{name}", "Audi/1.png")
    omitted = Omitted()
    assert found(tmp_path, omitted) == ["Audi/1.png"]
    assert omitted.junk == 1 and omitted.junk_example.startswith("Audi/")


@pytest.mark.parametrize(
    "name", ["eaDir", "recycle", "1.png", "found.png", "thumbs", "Icon", "a~$b.png", "previews", "狗"]
)
def test_names_that_only_resemble_junk_are_pictures(name: str) -> None:
    assert not ignored(name)


def test_links_to_folders_beside_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "audi/1.png", "bmw/2.png", "vw/3.png")
    together = tmp_path / "audi-and-others"
    together.mkdir()
    for name in ("audi", "bmw", "vw"):
        (together / name).symlink_to(f"../{name}")
    omitted = Omitted()
    assert found(together, omitted) == ["audi/1.png", "bmw/2.png", "vw/3.png"] and omitted.loops == 0


def test_circles_of_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/2.png", "dog/deep/3.png")
    (tmp_path / "cat" / "see-also").symlink_to("../dog")
    (tmp_path / "dog" / "see-also").symlink_to("../cat")
    (tmp_path / "dog" / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "latest.png").symlink_to("latest.png")
    (tmp_path / "cat" / "a.png").symlink_to("b.png")
    (tmp_path / "cat" / "b.png").symlink_to("a.png")
    omitted = Omitted()
    own = ["cat/1.png", "cat/a.png", "cat/b.png", "cat/latest.png", "dog/2.png", "dog/deep/3.png"]
    linked = ["cat/see-also/2.png", "cat/see-also/deep/3.png", *(f"dog/see-also/{name[4:]}" for name in own[:4])]
    assert found(tmp_path, omitted) == sorted(own + linked)
    assert omitted.loops == 4 and {entry.size for entry in walk(str(tmp_path)) if "latest" in entry.parts[-1]} == {0}


def test_the_root_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "real/cat/1.png")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "cat" / "all").symlink_to(tmp_path / "link")
    assert found(tmp_path / "link") == ["cat/1.png"]


def test_names_that_are_not_utf_8_are_listed_and_lead_to_their_files(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/Citro\xebn"
    os.mkdir(raw)  # noqa: PTH102 - pathlib knows no bytes
    with open(raw + b"/caf\xe9.png", "wb") as stream:  # noqa: PTH123
        stream.write(b"picture")
    (entry,) = walk(str(tmp_path))
    "".join(entry.parts).encode()
    assert storage.read_bytes(storage.join(str(tmp_path), *entry.parts)) == b"picture"
