"""Links, copies and what is no file: each picture once, each reject with its reason, nothing waited for."""

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from distributed_cls.errors import UserError

from .conftest import Prepared, kept_by_class, picture, rejects


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for image in range(6):
            (tmp_path / "in" / name / f"{image}.png").write_bytes(picture(10 * number + image))
    return tmp_path / "in"


def chain(root: Path) -> None:
    for link, target in (("a.png", "b.png"), ("b.png", "c.png"), ("c.png", "0.png")):
        (root / "cat" / link).symlink_to(target)


def file_elsewhere(root: Path) -> None:
    (root.parent / "elsewhere.png").write_bytes(picture(99))
    (root / "cat" / "x.png").symlink_to(root.parent / "elsewhere.png")


def folder_elsewhere(root: Path) -> None:
    (root.parent / "owls").mkdir()
    for image in range(6):
        (root.parent / "owls" / f"{image}.png").write_bytes(picture(50 + image))
    (root / "owl").symlink_to(root.parent / "owls")


def listening(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root / "cat", os.O_RDONLY)
        try:  # such an address may have 107 bytes
            server.bind(f"/proc/self/fd/{here}/x.png")
        finally:
            os.close(here)


def folder_like_a_picture(root: Path) -> None:
    (root / "cat" / "x.png").mkdir()
    (root / "cat" / "x.png" / "1.png").write_bytes(picture(99))


def linked_root(root: Path) -> None:
    root.rename(root.with_name("real"))
    root.symlink_to("real")


def relative_link_through_a_link(root: Path) -> None:
    folder_elsewhere(root)
    (root.parent / "owls" / "also.png").symlink_to("0.png")


EQUAL = {"cat": 6, "dog": 6}
CASES: dict[str, tuple[Callable[[Path], object], dict[str, int], dict[str, str], int]] = {
    "to nowhere": (lambda root: (root / "cat/x.png").symlink_to("gone"), EQUAL, {"cat/x.png": "missing"}, 0),
    "a chain": (chain, EQUAL, {}, 3),
    "a hard link": (lambda root: os.link(root / "cat/0.png", root / "cat/x.png"), EQUAL, {}, 1),
    "to another class": (
        lambda root: (root / "cat/x.png").symlink_to("../dog/0.png"),
        {"cat": 6, "dog": 5},
        {"cat/x.png": "conflicting_labels", "dog/0.png": "conflicting_labels"},
        0,
    ),
    "a hard link to another class": (
        lambda root: os.link(root / "dog/0.png", root / "cat/x.png"),
        {"cat": 6, "dog": 5},
        {"cat/x.png": "conflicting_labels", "dog/0.png": "conflicting_labels"},
        0,
    ),
    "a file elsewhere": (file_elsewhere, {"cat": 7, "dog": 6}, {}, 0),
    "a class folder elsewhere": (folder_elsewhere, {**EQUAL, "owl": 6}, {}, 0),
    "a link in a linked folder": (relative_link_through_a_link, {**EQUAL, "owl": 6}, {}, 1),
    "the root": (linked_root, EQUAL, {}, 0),
    "a device without end": (
        lambda root: (root / "cat/x.png").symlink_to("/dev/zero"),
        EQUAL,
        {"cat/x.png": "missing"},
        0,
    ),
    "a socket": (listening, EQUAL, {"cat/x.png": "missing"}, 0),
    "a file that cannot be read to its end": (
        lambda root: (root / "cat/x.png").symlink_to("/proc/self/mem"),
        EQUAL,
        {"cat/x.png": "unreadable"},
        0,
    ),
    "a folder like a picture": (folder_like_a_picture, {"cat": 7, "dog": 6}, {}, 0),
    "a name of 255 bytes": (lambda root: (root / "cat" / ("x" * 251 + ".png")).symlink_to("0.png"), EQUAL, {}, 1),
}


@pytest.mark.parametrize(("change", "kept", "rejected", "duplicates"), CASES.values(), ids=CASES)
def test_what_a_link_or_copy_leads_to(
    prepared: Prepared,
    root: Path,
    change: Callable[[Path], object],
    kept: dict[str, int],
    rejected: dict[str, str],
    duplicates: int,
) -> None:
    change(root)
    dataset = prepared(root)
    assert (kept_by_class(dataset), rejects(dataset), dataset.manifest.duplicates) == (kept, rejected, duplicates)
    assert prepared(root).path == dataset.path


@pytest.mark.parametrize("target", ["cat/0.png", "gone", "owl"])
def test_a_link_in_place_of_a_class_folder_that_leads_to_none_is_told(
    prepared: Prepared, root: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (root / "owl").symlink_to(target)
    assert kept_by_class(prepared(root)) == EQUAL
    assert "Files outside the class folders are not read: 1, for example owl" in caplog.text


def test_one_folder_under_two_classes_is_a_conflict_of_every_picture(prepared: Prepared, root: Path) -> None:
    (root / "katze").symlink_to("cat")
    with pytest.raises(UserError, match=r"12 of 18 \(conflicting_labels 12; .*the same picture under cat and katze"):
        prepared(root)


def test_folders_lie_in_each_other_deeper_than_calls_may(prepared: Prepared, root: Path) -> None:
    """(Python's own removal of such a folder fails, so the test removes it.)"""
    folders = [root / "cat"]
    for _ in range(1100):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "deep.png").write_bytes(picture(99))
    try:
        assert kept_by_class(prepared(root)) == {"cat": 7, "dog": 6}
    finally:
        (folders[-1] / "deep.png").unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


def test_a_folder_that_is_too_deep_for_the_system_is_one_line(prepared: Prepared, root: Path) -> None:
    folders = [os.open(root / "cat", os.O_RDONLY)]
    try:
        for _ in range(25):
            os.mkdir("d" * 200, dir_fd=folders[-1])
            folders.append(os.open("d" * 200, os.O_RDONLY, dir_fd=folders[-1]))
        with pytest.raises(UserError, match=r"\(File name too long\)\. .* move it out of data\.path"):
            prepared(root)
    finally:
        for folder in folders:
            os.close(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_not_be_entered_is_one_line(prepared: Prepared, root: Path) -> None:
    for folder in (root.parent, *root.parent.parents[:3]):
        folder.chmod(0o755)
    (root.parent / "prepared").mkdir(mode=0o777)
    (root.parent / "prepared").chmod(0o777)
    (root / "cat").chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"Received: .*/in/cat \(Permission denied\)") as caught:
            prepared(root)
    finally:
        os.seteuid(0)
    assert "\n" not in str(caught.value)
