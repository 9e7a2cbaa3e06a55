"""Whole files or none."""

import json
import threading
from pathlib import Path

import pytest

from distributed_cls.errors import UserError
from distributed_cls.storage.local_files import read_json, replacing, write_json, write_text


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
