"""A remote data set's shards on this machine: TensorFlow reads local files only.

``<cache>/<name>-<fingerprint>/<shard>``: the fingerprint names the content, so that a copy stays right for ever, and
ranks and runs of one machine share it. A rank holds a shared lock on a data set's folder for as long as it lives;
what nobody holds may be removed to make room.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed_cls import storage
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts import manifest as manifests
from distributed_cls.contracts.manifest import Shard
from distributed_cls.errors import UserError

_LOCK = ".lock"
_held: list[int] = []  # locks of this process, which end with it


def fetch(url: str, shards: Sequence[Shard], cluster: ClusterConfig, progress: Callable[[int, int], None]) -> str:
    """Copy ``shards`` of the data set at ``url`` to this machine, those that are not there whole; their folder.

    Every copy is compared with the manifest's checksum. ``progress``: bytes that are here, of all. Raises UserError:
    a damaged shard, or more bytes than ``cluster.shard_cache_gigabytes`` allows.
    """
    cache = Path(cluster.shard_cache or Path(tempfile.gettempdir(), f"distributed_cls-shards-{os.getuid()}"))
    folder = cache / url.rsplit("/", 1)[-1]
    _hold(folder)
    wanted = {shard.file: shard for shard in shards}.values()
    total = sum(shard.bytes for shard in wanted)
    _make_room(cache, folder, total, cluster.shard_cache_gigabytes)
    done = 0
    for shard in wanted:
        if not _is_whole(folder, shard):
            storage.attempts()(_copy, url, folder, shard)
        done += shard.bytes
        progress(done, total)
    return str(folder)


def _copy(url: str, folder: Path, shard: Shard) -> None:
    with storage.writing(folder / shard.file) as stream:
        for block in manifests.checked_blocks(url, shard):
            stream.write(block)


def _is_whole(folder: Path, shard: Shard) -> bool:
    try:
        manifests.check_shard(str(folder), shard)
    except UserError:
        return False
    return True


def _hold(folder: Path) -> None:
    """Make ``folder`` and keep others from removing it while this process lives."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / _LOCK
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # Removed by somebody else between the two: then the lock is on a file that has no name any more.
        with contextlib.suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(descriptor).st_ino:
                os.utime(folder)  # for the order in which folders are removed
                _held.append(descriptor)
                return
        os.close(descriptor)


def _make_room(cache: Path, own: Path, needed: int, gigabytes: float) -> None:
    """Remove the data sets that nobody reads, the one that was used longest ago first, until ``needed`` bytes fit."""
    limit = int(gigabytes * 1e9)
    if needed > limit:
        raise UserError(
            f"Expected the shards of each rank to fit into cluster.shard_cache_gigabytes={gigabytes:g}. "
            f"Received: {needed / 1e9:.1f} GB of one rank. Raise it where the disk has the room, set more workers, or "
            "put dataset_root on a mount."
        )
    others = [(_last_use(path), _bytes_in(path), path) for path in cache.iterdir() if path != own]
    used = sum(size for _, size, _ in others) + needed
    for _, size, path in sorted(others):
        if used <= limit:
            return
        if _remove_unless_held(path):
            used -= size


def _remove_unless_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:  # somebody else removes it
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
