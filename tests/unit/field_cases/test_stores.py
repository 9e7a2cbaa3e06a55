"""Object stores, in which a name may be anything: every picture is read, and nothing beside it is touched."""

import logging
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from distributed_cls import storage
from distributed_cls.dataset import verify
from distributed_cls.inference import slices

from ..storage.moto_bucket import bucket
from .conftest import Prepared, kept_by_class, picture, rejects

COUNT = 5


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def fill(store: Any, *folders: str) -> None:
    for number, folder in enumerate(folders):
        for image in range(COUNT):
            store.pipe_file(f"{folder}/{image}.png", picture(number * COUNT + image))


@pytest.mark.parametrize(
    ("beside", "url"),
    [
        (["/in.bak/x", "/inner/y", "/in-2/z", "/i/n"], "memory://in"),
        (["/in 2/x"], "memory://in/"),
        ([], "memory:///in"),
    ],
    ids=["like a prefix", "a slash at the end", "three slashes"],
)
def test_only_what_lies_in_the_folder_is_listed(prepared: Prepared, memory: Any, beside: list[str], url: str) -> None:
    fill(memory, "/in/cat", "/in/dog", *beside)
    assert kept_by_class(prepared(url)) == {"cat": COUNT, "dog": COUNT}
    assert len(slices.find_slices(storage.absolute(url))) == 2 * COUNT


PATTERNS = ["c*t", "c?t", "[cat]", "c[!a]t", "{cat,dog}", "**"]


@pytest.mark.parametrize("name", PATTERNS)
def test_a_name_that_looks_like_a_pattern_is_a_name(prepared: Prepared, memory: Any, name: str) -> None:
    fill(memory, f"/in/{name}", "/in/cat", "/in/cut")
    dataset = prepared("memory://in")
    assert kept_by_class(dataset) == {name: COUNT, "cat": COUNT, "cut": COUNT} and rejects(dataset) == {}
    items = list(slices.items(slices.find_slices("memory://in"), [name, "cat", "cut"]))
    assert [item.truth for item in items].count(name) == COUNT and all(item.read() for item in items)


@pytest.mark.parametrize("name", PATTERNS)
def test_data_sets_below_such_a_name_leave_their_neighbours_alone(prepared: Prepared, memory: Any, name: str) -> None:
    fill(memory, "/in/cat", "/in/dog", "/cat/.work/x", "/cut/.work/y", "/c/.work/z")
    dataset = prepared("memory://in", root=f"memory://{name}")
    assert verify.verify(dataset.path).records == 2 * COUNT
    storage.remove_folder(f"memory://{name}/.work")
    for folder in ("/cat/.work/x", "/cut/.work/y", "/c/.work/z"):
        assert len(memory.find(folder)) == COUNT
    storage.remove_folder(f"memory://{name}")
    assert not memory.find(f"/{name}") and len(memory.find("/cat")) == COUNT


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with bucket("pictures") as client:
        yield client


def put(s3: Any, folder: str, *names: str) -> str:
    """Class folders of these names below a new folder of the bucket: its URL."""
    for number, name in enumerate(names):
        for image in range(COUNT):
            key = f"{folder}/{name}/{image}.png"
            s3.put_object(Bucket="pictures", Key=key, Body=picture(number * COUNT + image))
    return f"s3://pictures/{folder}"


ODD = ["c a+t%20", "c#t?&=1", "c*t[1]", "dög 狗", "c\\t|^`{}", "c\"t'\t", "~c;t,:@!$()", "🐈"]


def test_objects_of_any_name_are_read_under_their_own(prepared: Prepared, s3: Any) -> None:
    url = put(s3, "odd", *ODD)
    dataset = prepared(url)
    assert kept_by_class(dataset) == dict.fromkeys(ODD, COUNT)
    assert prepared(url).reused
    items = list(slices.items(slices.find_slices(url), ODD))
    assert sorted(str(item.truth) for item in items) == sorted(COUNT * ODD)
    assert all(item.read().startswith(b"\x89PNG") for item in items[::COUNT])


def test_objects_that_stand_for_folders_are_no_pictures(prepared: Prepared, s3: Any) -> None:
    url = put(s3, "folders", "cat", "dog")
    for key in ("", "cat/", "empty/", "cat/inner/", "dog"):
        s3.put_object(Bucket="pictures", Key=f"folders/{key}", Body=b"")
    dataset = prepared(url)
    assert kept_by_class(dataset) == {"cat": COUNT, "dog": COUNT} and rejects(dataset) == {}


def test_keys_that_are_no_paths_are_counted(prepared: Prepared, s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = put(s3, "slashes", "cat", "dog", "dog/", "/owl", "dog/.", "dog/..")
    assert kept_by_class(prepared(url)) == {"cat": COUNT, "dog": COUNT}
    assert "are not read: 20, for example /owl/0.png" in caplog.text


@pytest.mark.parametrize("prefix", ["", "./", "s3://pictures/listed/", "s3a://pictures/listed/"])
def test_a_table_in_a_bucket_lists_objects_in_every_form(prepared: Prepared, s3: Any, prefix: str) -> None:
    url = put(s3, "listed", "cat", "dog")
    rows = [f"{prefix}{name}/{image}.png,{name}" for name in ("cat", "dog") for image in range(COUNT)]
    storage.write_text(f"{url}/list.csv", "\n".join(["path,label", *rows]))
    assert kept_by_class(prepared(f"{url}/list.csv", source="table")) == {"cat": COUNT, "dog": COUNT}
    items = list(slices.items(slices.find_slices(f"{url}/list.csv"), ["cat", "dog"]))
    assert len(items) == 2 * COUNT and all(item.read() for item in items[::COUNT])


def test_objects_that_may_not_be_read_are_read_again_when_they_may(prepared: Prepared, s3: Any) -> None:
    url = put(s3, "forbidden", "cat", "dog")
    evenly = [0.4, 0.3, 0.3]  # with four images of a class each split still gets one
    store = type(storage.filesystem(url)[0])
    real = store._cat_file

    async def forbidden(self: Any, path: str, *rest: Any, **named: Any) -> bytes:
        if path.endswith("cat/3.png"):
            raise PermissionError(13, "Access Denied")  # as s3fs tells what S3 answers with 403
        return bytes(await real(self, path, *rest, **named))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_cat_file", forbidden)
        first = prepared(url, split=evenly)
        assert rejects(first) == {"cat/3.png": "unreadable"}
        assert first.manifest.rejects[0]["detail"] == "Access Denied"
        assert prepared(url, split=evenly).path == first.path
    assert kept_by_class(prepared(url, split=evenly)) == {"cat": COUNT, "dog": COUNT}
