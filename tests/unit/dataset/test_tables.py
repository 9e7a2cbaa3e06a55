"""Tables as people make them: spreadsheets, dumps, half-filled columns. Each is read, or refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.dataset import sources
from distributed_cls.errors import UserError
from distributed_cls.text import printable

HEADER = "path{0}label{0}other\n"
ROW = "{1}.png{0}{2}{0}x\n"


def table_text(mark: str = ",", end: str = "\n") -> str:
    rows = [ROW.format(mark, number, ("cat", "dög")[number % 2]) for number in range(4)]
    return (HEADER.format(mark) + "".join(rows)).replace("\n", end)


def listed(file: Path, source: str = "table") -> pa.Table:
    return sources.list_images(DataConfig(source=source, path=str(file)), "").table


def refusal(file: Path, source: str = "table") -> str:
    with pytest.raises(UserError) as caught:
        listed(file, source)
    message = str(caught.value)
    assert message.startswith("Expected ") and "Received: " in message and message.isprintable()
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", table_text().encode()),
        ("tabs.tsv", table_text("\t").encode()),
        ("marked.csv", table_text().encode("utf-8-sig")),
        ("semicolons.csv", table_text(";").encode("utf-8-sig")),
        ("tabs.csv", table_text("\t").encode()),
        ("commas.tsv", table_text(",").encode()),
        ("windows.csv", table_text(end="\r\n").encode()),
        ("quoted.csv", table_text(";").replace("label;", '"label";').encode()),
        ("excel.csv", table_text().encode("utf-16")),
        ("big-endian.txt", b"\xfe\xff" + table_text("\t").encode("utf-16-be")),
        ("named.csv", ("sep=;\r\n" + table_text(";", "\r\n")).encode()),
        ("named-pipe.csv", ("\ufeffsep=|\n" + table_text("|")).encode()),
        ("spaced.csv", table_text().replace(",", ", ").encode()),
        ("half-spaced.csv", table_text().replace(",", ", ").replace("path, label, other", "path,label,other").encode()),
    ],
)
def test_tables_of_every_spreadsheet(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    table = listed(tmp_path / name)
    assert table["path"].to_pylist() == [f"{number}.png" for number in range(4)]
    assert table["label"].to_pylist() == ["cat", "dög"] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n1.png,cat\n2.png,\n", "a label in every row. Received: none in row 1"),
        ("path,label\n1.png,cat\n,dog\n", "a path in every row. Received: none in row 1"),
        ("path,label\n1.png,cat\n2.png,  \n", "a label in every row. Received: none in row 1"),
        ("path,label,label\n1.png,cat,cat\n", "the column label once"),
        ("path,label\nC:\\pics\\1.png,cat\n", "Received: C:\\pics\\1.png in row 0"),
        ("path,label\n", "without any image. Set data.path to a table"),
        ("path,label\n1.png,cat\n", "single class cat. Set data.path to a table"),
        ("path,label\n1.png,cat\n2.png,dog,x\n", "Expected 2 columns, got 3"),
        ("path,label\n" + "1.png,c\x00t\n" + "2.png,\x1b[31mdog,x\n", "Expected 2 columns, got 3"),
        (",".join(f"c{number}" for number in range(500)) + "\n", "'c19', …. Set"),
        ("", "Empty CSV file"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert message in refusal(tmp_path / "t.csv")


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(table_text().encode("latin-1"))
    assert "(line 3 is not UTF-8)" in refusal(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(table_text().replace("other", "größe").encode("latin-1"))
    assert "(line 1 is not UTF-8)" in refusal(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(table_text().encode("utf-16")[:-1])
    assert "is not UTF-16" in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"] * 3, "label": ["a", None, "b"]}, "none in row 1"),
        ({"image": [b"x"] * 3, "label": [1.0, 2.0, float("nan")]}, "none in row 2"),
        ({"image": [b"x"] * 2, "label": [[1], [2]]}, "text or numbers in the column label. Received: list"),
        ({"image": ["a.png", "b.png"], "label": ["a", "b"]}, "Received: .* with string. Set .* data=table"),
        ({"image": [{"file": b"x"}] * 2, "label": ["a", "b"]}, "with struct<file: binary>"),
        ({"picture": [b"x"] * 2, "label": ["a", "b"]}, "Expected the column image"),
    ],
)
def test_what_is_wrong_with_a_table_of_images_is_one_line(
    tmp_path: Path, columns: dict[str, list[Any]], message: str
) -> None:
    index.write(str(tmp_path / "t.parquet"), pa.table(columns))
    assert re.search(message, refusal(tmp_path / "t.parquet", "parquet"))


def test_paths_and_labels_of_any_text_type(tmp_path: Path) -> None:
    columns = {"path": pa.array([b"1.png", b"2.png"]), "label": pa.array(["a", "b"]).dictionary_encode()}
    index.write(str(tmp_path / "t.parquet"), pa.table(columns))
    table = listed(tmp_path / "t.parquet")
    assert (table["path"].to_pylist(), table["label"].to_pylist()) == (["1.png", "2.png"], ["a", "b"])


def test_paths_as_other_programs_write_them(tmp_path: Path) -> None:
    for name in ("a b.png", "c%20d.png", "e\\f.png", "sub/g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    written = [f"file://{tmp_path}/a%20b.png", f"file:{tmp_path}/c%20d.png", "e\\f.png", "sub\\g.png", "no\\where.png"]
    index.write(str(tmp_path / "t.parquet"), pa.table({"path": written, "label": [*"abcde"]}))
    table = listed(tmp_path / "t.parquet")
    found = dict(zip(table["label"].to_pylist(), table["path"].to_pylist(), strict=True))
    assert found == {
        "a": f"{tmp_path}/a b.png",
        "b": f"{tmp_path}/c%20d.png",
        "c": "e\\f.png",
        "d": "sub/g.png",
        "e": "no/where.png",
    }
    assert [size for size in table["size"].to_pylist() if size] == [1] * 4


def hugging_face(file: Path, labels: list[int], names: list[str]) -> None:
    """A table as ``datasets.Dataset.to_parquet`` writes it."""
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
    image = pa.array(
        [{"bytes": b"x", "path": None}] * len(labels), pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    table = pa.table({"image": image, "label": labels})
    file.parent.mkdir(parents=True, exist_ok=True)
    index.write(str(file), table.replace_schema_metadata({"huggingface": json.dumps(about)}))


@pytest.mark.parametrize(
    "files",
    [
        ["train-00000-of-00002.parquet", "train-00001-of-00002-0123abcd.parquet", "test-00000-of-00001.parquet"],
        ["default/train/0000.parquet", "default/partial-train/0001.parquet", "default/test/0000.parquet"],
        ["data/train.parquet", "train-1-of-1.PARQUET", "data/test.parquet"],
    ],
)
def test_tables_of_hugging_face_give_splits_and_class_names(tmp_path: Path, files: list[str]) -> None:
    names = [f"class {number}" for number in range(11)]
    for file in files:
        hugging_face(tmp_path / file, list(range(11)), names)
    table = listed(tmp_path, "parquet")
    expected = {file: 0 if "train" in file else 2 for file in files}
    assert dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True)) == expected
    assert table["label"].to_pylist() == names * 3


def test_a_label_of_hugging_face_that_says_none_is_told(tmp_path: Path) -> None:
    hugging_face(tmp_path / "test.parquet", [0, 1, -1], ["a", "b"])
    assert "a label in every row. Received: none in row 2" in refusal(tmp_path, "parquet")


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\nb\x1b[31m\x00 狗 \U0001f468‍\U0001f469") == "a\\nb\\x1b[31m\\x00 狗 \U0001f468‍\U0001f469"
