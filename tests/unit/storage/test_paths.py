"""One door for local paths and URLs: whole files or none."""

import subprocess
import sys
from pathlib import Path

import pytest

from distributed_cls import storage
from distributed_cls.errors import UserError
from distributed_cls.storage import files
from tests.patience import PATIENCE


def test_names_between_spark_and_fsspec() -> None:
    assert storage.plain("file:/tmp/a b.png") == "/tmp/a b.png"
    assert storage.plain("file:///tmp/a.png") == "/tmp/a.png"
    assert storage.plain("s3a://bucket/a.png") == "s3://bucket/a.png"
    assert storage.for_spark("s3://bucket/a") == "s3a://bucket/a"
    assert storage.for_spark("/data") == "file:///data"


def test_files_are_whole_or_absent_also_on_a_remote_store() -> None:
    folder = "memory://results/one"
    file = storage.join(folder, "a.parquet")
    assert storage.names(folder) == []
    storage.write_bytes(file, b"1")
    storage.write_bytes(file, b"22")
    assert storage.names(folder) == ["a.parquet"]
    assert storage.read_bytes(file) == b"22"
    assert storage.exists(file)
    assert not storage.exists(storage.join(folder, "b.parquet"))


@pytest.mark.parametrize("folder", ["memory://results/two", "{tmp_path}"])
def test_a_write_that_fails_leaves_what_was_there(folder: str, tmp_path: Path) -> None:
    file = storage.join(folder.format(tmp_path=tmp_path), "a.bin")
    storage.write_bytes(file, b"old")

    def write_half() -> None:
        with storage.writing(file) as stream:
            stream.write(b"ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert storage.read_bytes(file) == b"old"
    assert storage.names(file.rpartition("/")[0]) == ["a.bin"]


def test_an_unknown_scheme_is_a_clear_line() -> None:
    with pytest.raises(UserError, match="Received: nosuch://here"):
        storage.filesystem("nosuch://here")


def test_what_cannot_be_read_is_a_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"an existing folder.*data\.path=.*nowhere\. Set data\.path="):
        storage.check_readable(str(tmp_path / "nowhere"), "data.path")
    with pytest.raises(UserError, match="address in the environment"):
        storage.check_readable("memory://nowhere", "data.path")

    def refuse(path: str) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "exists", refuse)
    with pytest.raises(UserError, match=r"data\.path=/x \(Permission denied\)\. Check the credentials"):
        storage.check_readable("/x", "data.path")


def test_a_program_that_is_started_after_hdfs_was_used_does_not_hang() -> None:
    """As PySpark starts its JVM: with a function between fork and exec, for which Python runs the hooks of fork."""
    pytest.importorskip("hdfs_native")
    program = "import subprocess; subprocess.run(['true'], preexec_fn=lambda: None, check=True)"
    use = "from distributed_cls import storage; storage.filesystem('hdfs://127.0.0.1:1/nothing')"
    subprocess.run([sys.executable, "-c", f"{use}; {program}"], check=True, timeout=PATIENCE)
