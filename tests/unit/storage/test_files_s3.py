"""What another process has written into a bucket is seen, whatever this one has listed before."""

from collections.abc import Iterator
from typing import Any

import pytest

from distributed_cls import storage
from tests.unit.storage.moto_bucket import NAME, URL, bucket


@pytest.fixture(scope="module")
def other_process() -> Iterator[Any]:
    with bucket() as client:
        yield client


def read_stream(path: str) -> bytes:
    with storage.open_read(path) as stream:
        return stream.read()


@pytest.mark.parametrize("read", [storage.read_bytes, read_stream, lambda path: b"x" * storage.size(path)])
def test_a_file_that_came_after_the_listing_is_read(
    other_process: Any, read: Any, request: pytest.FixtureRequest
) -> None:
    folder = f"{URL}/{abs(hash(request.node.name))}"
    storage.write_bytes(f"{folder}/_job.json", b"x")
    assert storage.names(folder) == ["_job.json"]
    other_process.put_object(Bucket=NAME, Key=f"{folder.removeprefix(URL)[1:]}/part-00000", Body=b"xx")
    assert read(f"{folder}/part-00000") == b"xx"
    assert storage.names(folder) == ["_job.json", "part-00000"]
