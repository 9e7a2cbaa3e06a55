"""Listing a bucket page by page: the same files as folder by folder, in a fraction of the memory."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

pytest.importorskip("s3fs")

from distributed_cls import storage
from distributed_cls.config import DataConfig
from distributed_cls.dataset import sources
from distributed_cls.errors import UserError
from distributed_cls.storage import walk

from . import object_store

MANY = 30_000
ODD = [
    "in/",
    "in/.hidden/1.png",
    "in/cat",
    "in/cat.png",
    "in/cat/",
    "in/cat/.DS_Store",
    "in/cat/1.png",
    "in/cat/Thumbs.db",
    "in/cat/deep/",
    "in/cat/deep/er/2.png",
    "in/cat//twice.png",
    "in/dög 狗/a&b <c>+%20.png",
    *(f"in/many/{number:04d}.png" for number in range(2500)),
    "in/zebra/3.png",
    "inside/no.png",
    "other.png",
]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-for-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture()
def odd_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = object_store.serve(sorted(ODD, key=str.encode))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    _forget_clients()
    yield f"s3://{object_store.BUCKET}"
    server.shutdown()
    server.server_close()
    _forget_clients()


@pytest.fixture()
def large_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """In a process of its own, so that its memory is not counted."""
    command = [sys.executable, object_store.__file__, str(MANY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.stdout.readline().strip()}")
        _forget_clients()
        yield f"s3://{object_store.BUCKET}"
        server.stdin.close()
    _forget_clients()


def _forget_clients() -> None:
    """s3fs keeps its clients, with the address of the server that they were made for."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def folder_by_folder(url: str, recursive: bool = True) -> Iterator[walk.Entry]:
    return walk._walk_folders(*storage.filesystem(url), recursive, walk.Omitted())


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("folder", ["", "/in", "/in/", "/in/cat", "/in/many"])
def test_the_same_files_as_folder_by_folder(odd_bucket: str, folder: str, recursive: bool) -> None:
    found = list(walk.walk(odd_bucket + folder, recursive))
    assert len(found) == len(set(found))
    assert set(found) == set(folder_by_folder(odd_bucket + folder, recursive))
    if folder == "/in" and recursive:
        kept = {"cat", "cat.png", "cat/1.png", "cat/deep/er/2.png", "dög 狗/a&b <c>+%20.png", "zebra/3.png"}
        assert {"/".join(entry.parts) for entry in found if entry.parts[0] != "many"} == kept
        assert len(found) == 2500 + len(kept)


def peak_bytes(entries: Iterator[walk.Entry]) -> tuple[int, int]:
    """How many entries, and the most memory that Python held at once meanwhile."""
    tracemalloc.start()
    try:
        return sum(1 for _ in entries), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_folder(large_bucket: str) -> None:
    folder = f"{large_bucket}/in/dog"
    next(walk.walk(folder))  # imports and connections are not counted
    count, peak = peak_bytes(walk.walk(folder))
    old_count, old_peak = peak_bytes(folder_by_folder(folder))
    assert count == old_count == MANY // 4
    assert peak < old_peak / 2, (peak, old_peak)


def test_every_key_once(large_bucket: str) -> None:
    listed = sources.list_images(DataConfig(source="folder", path=f"{large_bucket}/in"), "")
    expected = sorted(key.removeprefix("in/") for key in object_store.synthetic_keys(MANY))
    assert listed.table["path"].to_pylist() == expected
    assert set(listed.table["size"].to_pylist()) == {50_000}


def test_no_rights_and_no_bucket_are_one_line(odd_bucket: str) -> None:
    for path, received in (("s3://pictures/secret", "Access Denied"), ("s3://nowhere/x", "nowhere")):
        with pytest.raises(UserError, match=received) as caught:
            sources.list_images(DataConfig(source="folder", path=path), "")
        assert "\n" not in str(caught.value) and f"Received: data.path={path}" in str(caught.value)
