"""The index on a disk and between processes: written, read, checked, an older version included."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.contracts import index
from distributed_cls.errors import UserError


def row(path: str, **facts: object) -> dict[str, object]:
    return {"path": path, "row": -1, "label": "a", "size": 1, "stamp": 1, "split": -1, **facts}


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), index.SCHEMA)


MADE = table(row("a.png", reason="empty"), row("b.png", key=b"k" * 16, file="x", offset=1, length=2))


def test_what_is_written_is_read_with_its_version_in_the_file(tmp_path: Path) -> None:
    path = str(tmp_path / index.FILE)
    index.write(path, MADE)
    assert index.read(path).equals(MADE) and not index.read(path).schema.metadata
    assert pq.read_schema(path).metadata[b"distributed_cls.index.schema_version"] == b"3"
    assert index.from_bytes(index.to_bytes(MADE)).equals(MADE)


def test_version_1_had_no_number_and_neither_it_nor_2_told_what_is_grey(tmp_path: Path) -> None:
    pq.write_table(MADE.drop_columns("grey"), tmp_path / index.FILE)
    assert index.of_dataset(str(tmp_path)).equals(MADE)
    assert not index.all_grey(MADE)
    assert index.all_grey(table(row("a.png", grey=True))) and not index.all_grey(table(row("a.png", grey=False)))


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    later = MADE.replace_schema_metadata({"distributed_cls.index.schema_version": "4"})
    pq.write_table(later, tmp_path / index.FILE)
    with pytest.raises(UserError, match=r"schema version 3 or earlier.*has version 4"):
        index.of_dataset(str(tmp_path))


def test_a_read_error_is_no_answer_for_another_run() -> None:
    known = table(row("a.png", reason="unreadable"), row("b.png", reason="empty"), row("c.png", key=b"k" * 16))
    known = pa.concat_tables([known, table(row("d.png", reason="unsupported_format"))])
    assert index.remembered(known)["path"].to_pylist() == ["b.png", "c.png"]
    listed = known.select(index.LISTING_SCHEMA.names)
    assert index.missing(listed, index.remembered(known))["path"].to_pylist() == ["a.png", "d.png"]


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_read_counts_before_what_could_not_be(order: int) -> None:
    known = [table(row("a.png", reason="unreadable")), table(row("a.png", key=b"k" * 16))][::order]
    described = index.describe(known[0].select(index.LISTING_SCHEMA.names), pa.concat_tables(known))
    assert described["reason"].to_pylist() == [None]
