"""Copies of a remote data set's shards: whole ones stay, others are fetched again, and room is made only where nobody
reads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.manifest import Shard
from distributed_cls.errors import UserError
from distributed_cls.training import shard_cache
from tests.shards import records, write_dataset


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A data set of two train shards in a remote store."""
    part = records(4)
    write_dataset(tmp_path / "set", {"train": [part[:2], part[2:]], "val": [part], "test": [part]})
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "set"), "/root/stripes-00000001", recursive=True)
    yield "memory://root/stripes-00000001"
    store.rm("/root", recursive=True)


def _shards(url: str) -> list[Shard]:
    from distributed_cls.contracts import manifest

    return manifest.load(url).shards["train"]


def _ignore(done: int, total: int) -> None:
    pass


def test_shards_are_copied_once_and_a_damaged_copy_again(url: str, tmp_path: Path) -> None:
    cluster = ClusterConfig(shard_cache=str(tmp_path / "cache"))
    shards, seen = _shards(url), []
    folder = Path(shard_cache.fetch(url, [*shards, shards[0]], cluster, lambda done, total: seen.append((done, total))))
    assert folder == tmp_path / "cache" / "stripes-00000001"
    total = shards[0].bytes + shards[1].bytes
    assert seen == [(shards[0].bytes, total), (total, total)]
    store = fsspec.filesystem("memory")
    for shard in shards:
        assert (folder / shard.file).read_bytes() == store.cat_file(f"/root/stripes-00000001/{shard.file}")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", *(shard.file for shard in shards)]

    kept, damaged = (folder / shard.file for shard in shards)
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(b"?" * shards[1].bytes)
    shard_cache.fetch(url, shards, cluster, _ignore)
    assert kept.stat().st_mtime_ns == before
    assert damaged.read_bytes() == store.cat_file(f"/root/stripes-00000001/{shards[1].file}")


def test_a_shard_that_is_damaged_in_the_store_is_named_and_leaves_no_copy(url: str, tmp_path: Path) -> None:
    shards = _shards(url)
    fsspec.filesystem("memory").pipe_file(f"/root/stripes-00000001/{shards[1].file}", b"?" * shards[1].bytes)
    with pytest.raises(UserError, match=rf"Received: {url}/{shards[1].file} has crc32c .* Delete {url} and prepare"):
        shard_cache.fetch(url, shards, ClusterConfig(shard_cache=str(tmp_path / "cache")), _ignore)
    left = sorted(path.name for path in (tmp_path / "cache" / "stripes-00000001").iterdir())
    assert left == [".lock", shards[0].file]


def test_room_is_made_by_what_nobody_reads_the_oldest_first(url: str, tmp_path: Path) -> None:
    cache, shards = tmp_path / "cache", _shards(url)
    for age, name in enumerate(("new", "old", "read", "gone"), start=1):
        (cache / name).mkdir(parents=True)
        (cache / name / ".lock").touch()
        (cache / name / "shard").write_bytes(bytes(1000))
        os.utime(cache / name, (1e9 - age, 1e9 - age))
    total = sum(shard.bytes for shard in shards)
    cluster = ClusterConfig(shard_cache=str(cache), shard_cache_gigabytes=(total + 2000) / 1e9)
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(cache / "read" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        shard_cache.fetch(url, shards, cluster, _ignore)
        assert reader.stdin is not None
        reader.stdin.close()
    assert sorted(path.name for path in cache.iterdir()) == ["new", "read", "stripes-00000001"]


def test_a_rank_whose_part_does_not_fit_is_refused(url: str, tmp_path: Path) -> None:
    cluster = ClusterConfig(shard_cache=str(tmp_path / "cache"), shard_cache_gigabytes=1e-9)
    with pytest.raises(UserError, match=r"cluster\.shard_cache_gigabytes=1e-09.*Raise it.*mount"):
        shard_cache.fetch(url, _shards(url), cluster, _ignore)
