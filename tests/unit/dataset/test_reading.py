"""Reading the listed images: what may pass is tried again, what was not read is never taken for a fault of the file."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from distributed_cls.contracts import index
from distributed_cls.dataset import listing, reading
from distributed_cls.images.decode import Reject
from distributed_cls.storage import access


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_FIRST_WAIT", 0.0)
    monkeypatch.setattr(access.attempts, "__defaults__", (0.0, access.ATTEMPTS))


def rows(*names: str, stamp: int = 1) -> pa.Table:
    made = listing.Rows()
    for name in names:
        made.add(name, "a", 10, stamp)
    return made.table()


def outcomes(root: Path | str, table: pa.Table, column: str | None = None) -> list[Any]:
    found = reading.contents(str(root), table, column, 1000)
    return [item.reason if isinstance(item, Reject) else item for item in found]


def failing(real: Callable[..., Any], times: int, error: OSError, calls: list[str]) -> Callable[..., Any]:
    """A function that fails so many times for every path that has "bad" in it."""

    def call(path: str, *rest: Any) -> Any:
        if "bad" in str(path):
            calls.append(path)
            if len(calls) <= times:
                raise error
        return real(path, *rest)

    return call


@pytest.mark.parametrize(
    ("number", "times", "reason", "calls"),
    [
        (errno.EIO, 2, None, 3),
        (errno.EIO, 99, "unreadable", 4),
        (errno.EACCES, 99, "unreadable", 1),
        (errno.ENOENT, 99, "unreadable", 1),  # seen when it was listed: it may come back, as a mount does
    ],
)
def test_local_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, times: int, reason: str | None, calls: int
) -> None:
    for name in ("bad.png", "good.png"):
        (tmp_path / name).write_bytes(b"picture")
    seen: list[str] = []
    error = OSError(number, os.strerror(number))
    monkeypatch.setattr(reading, "_open_at_once", failing(reading._open_at_once, times, error, seen))
    assert outcomes(tmp_path, rows("bad.png", "good.png")) == [reason or b"picture", b"picture"]
    assert len(seen) == calls


def test_what_is_no_file_is_missing_and_stays_so(tmp_path: Path) -> None:
    (tmp_path / "nowhere.png").symlink_to("gone")
    (tmp_path / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert outcomes(tmp_path, rows("nowhere.png", "self.png", "not-there.png", stamp=0)) == ["missing"] * 3
    assert outcomes(tmp_path, rows("pipe.png")) == ["missing"]


def test_a_device_that_is_down_for_good_is_not_waited_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(reading, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(reading, "_open_at_once", failing(os.open, 999, OSError(errno.EIO, "I/O error"), seen))
    assert outcomes(tmp_path, rows("bad1.png", "bad2.png")) == ["unreadable"] * 2
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("error", "times", "reason"),
    [
        (TimeoutError(errno.ETIMEDOUT, "slow"), 2, None),
        (OSError("503 Slow Down"), 99, "unreadable"),  # stores raise it without a number
        (PermissionError(errno.EACCES, "Access Denied"), 99, "unreadable"),
    ],
)
def test_objects_of_a_store(monkeypatch: pytest.MonkeyPatch, error: OSError, times: int, reason: str | None) -> None:
    store = fsspec.filesystem("memory")
    for name in ("bad.png", "good.png"):
        store.pipe_file(f"/pictures/{name}", b"picture")
    monkeypatch.setattr(type(store), "cat_file", failing_method(type(store).cat_file, times, error))
    found = outcomes("memory://pictures", rows("bad.png", "gone.png", "good.png"))
    assert found == [reason or b"picture", "unreadable", b"picture"]
    assert outcomes("memory://pictures", rows("gone.png", stamp=0)) == ["missing"]


def failing_method(real: Callable[..., Any], times: int, error: OSError) -> Callable[..., Any]:
    calls: list[str] = []

    def call(store: Any, path: str, *rest: Any, **named: Any) -> Any:
        if "bad" in path:
            calls.append(path)
            if len(calls) <= times:
                raise error
        return real(store, path, *rest, **named)

    return call


def test_rows_of_a_table_go_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.write(str(tmp_path / "t.parquet"), pa.table({"image": [b"1", None, b"3", b"4"]}))
    made = listing.Rows()
    for row in range(4):
        made.add("t.parquet", "a", 10, 1, row=row)
    real = reading._rows_of_group
    calls: list[int] = []

    def unsteady(*arguments: Any) -> Any:
        for number, item in enumerate(real(*arguments)):
            if number == 2 and not calls:
                calls.append(number)
                raise OSError(errno.EIO, "I/O error")
            yield item

    monkeypatch.setattr(reading, "_rows_of_group", unsteady)
    assert outcomes(tmp_path, made.table(), "image") == [b"1", "empty", b"3", b"4"] and calls


def test_a_damaged_table_is_rows_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"no table")
    made = listing.Rows()
    for row in range(3):
        made.add("t.parquet", "a", 10, 1, row=row)
    assert outcomes(tmp_path, made.table(), "image") == ["unreadable"] * 3
