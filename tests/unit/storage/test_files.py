"""Whole files or none."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from distributed_cls import storage
from distributed_cls.errors import UserError
from distributed_cls.storage import read_json, replacing, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.json"
    write_json(target, {"ä": [1, 2.5, None]})
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert json.loads(target.read_text(encoding="utf-8")) == {"ä": [1, 2.5, None]}
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "0" * 100_000)
    stop = threading.Event()
    writer = threading.Thread(
        target=lambda: [write_text(target, str(n % 10) * 100_000) for n in range(100) if not stop.is_set()]
    )
    writer.start()
    try:
        while writer.is_alive():
            text = target.read_text()
            assert len(text) == 100_000 and len(set(text)) == 1
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    ("content", "found"), [(None, "no such file"), (b"{", "damaged JSON"), (b"\xff\xfe{}", "damaged JSON")]
)
def test_reading_what_is_not_there_or_damaged_is_told(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_json(path, "the summary of a run", "Run the job again.")
    message = str(raised.value)
    assert message.startswith(f"Expected the summary of a run at {path}. Received: {found}")
    assert message.endswith("Run the job again.")


@pytest.mark.parametrize("keep", [False, True])
def test_a_folder_appears_whole_and_takes_the_place_of_the_old_one(tmp_path: Path, keep: bool) -> None:
    target = tmp_path / "model"
    for number in range(2):
        with storage.replacing_folder(target, keep_existing=keep) as folder:
            (folder / f"{number}.txt").write_text("x")
            assert not target.exists() or (target / "0.txt").exists()
    assert [path.name for path in target.iterdir()] == ["0.txt" if keep else "1.txt"]
    with pytest.raises(ZeroDivisionError), storage.replacing_folder(target) as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("path", ["memory://sums/x.bin", "{tmp_path}/x.bin"])
def test_the_checksum_and_the_temporary_file_are_one_for_every_store(tmp_path: Path, path: str) -> None:
    path = path.format(tmp_path=tmp_path)
    with storage.replacing(path) as temporary:
        temporary.write_bytes(b"123456789")
        assert not storage.exists(path)
    assert storage.crc32c(path) == 0xE3069283  # the check value of CRC-32C
    storage.remove_file(path)
    storage.remove_file(path)
    assert not storage.exists(path)


def test_a_name_that_is_not_utf_8_is_a_path_like_any_other(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(raw)  # noqa: PTH102 - pathlib knows no bytes
    root = storage.absolute(os.fsdecode(raw))
    root.encode()
    storage.write_bytes(storage.join(root, "x"), b"1")
    assert storage.names(root) == ["x"] and storage.names(tmp_path) == [Path(root).name]
    assert storage.read_bytes(f"{root}/x") == b"1" and storage.size(f"{root}/x") == 1
    storage.remove_folder(root)
    assert not storage.exists(root)


class _Unsteady:
    """A call that fails so many times before it succeeds."""

    def __init__(self, failures: int, error: OSError) -> None:
        self.left, self.error, self.calls = failures, error, 0

    def __call__(self) -> str:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "read"


@pytest.mark.parametrize(
    ("number", "failures", "calls"),
    [(errno.EIO, 3, 4), (errno.ESTALE, 1, 2), (errno.EIO, 9, 4), (errno.EACCES, 1, 1), (errno.ENOENT, 1, 1)],
)
def test_reading_is_tried_again_only_where_the_error_may_pass(number: int, failures: int, calls: int) -> None:
    call = _Unsteady(failures, OSError(number, os.strerror(number)))
    if failures < calls:
        assert storage.attempts(first_wait=0)(call) == "read"
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            storage.attempts(first_wait=0)(call)
    assert call.calls == calls


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_place_below_a_folder_of_another_user_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        for check in (storage.check_place, storage.check_readable, storage.check_writable):
            with pytest.raises(UserError, match=r"Expected dataset_root .*\(Permission denied\)"):
                check(str(tmp_path / "theirs" / "below"), "dataset_root")
    finally:
        os.seteuid(0)
    storage.check_place(str(tmp_path / "new"), "dataset_root")
    (tmp_path / "new").chmod(0o500)
    storage.check_place(str(tmp_path / "new"), "dataset_root")


def test_a_file_whose_name_is_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("狗" * 85)  # 255 bytes
    write_text(target, "x")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("url", ["s3://", "memory://", "gs:///"])
def test_a_url_of_a_whole_store_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"a bucket or folder in it\. Received: " + url + r"\. Write \w+://name/folder"):
        storage.absolute(url)
