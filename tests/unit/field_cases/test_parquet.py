"""Parquet tables as programs write them: the same classes for training and for prediction, or a refusal in one line."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls.config.inference_sections import PredictConfig
from distributed_cls.errors import UserError
from distributed_cls.inference import slices

from .conftest import Prepared, kept_by_class, pictures, rejects

IMAGES = pictures(12)
LABELS = ["cat", "dog"] * 6
NUMBERS = [0, 1] * 6


def table(images: Any = IMAGES, labels: Any = LABELS, **more: Any) -> pa.Table:
    return pa.table({"image": images, "label": labels, **more})


def written(root: Path, *tables: pa.Table) -> Path:
    root.mkdir(exist_ok=True)
    for number, one in enumerate(tables):
        pq.write_table(one, root / f"{number}.parquet")
    return root


def structs(kind: pa.DataType) -> pa.Array:
    return pa.array([{"bytes": image, "path": "a.png"} for image in IMAGES], kind)


def pandas(labels: Any, index: Any = None) -> pa.Table:
    return pa.Table.from_pandas(pd.DataFrame({"image": IMAGES, "label": labels}, index=index))


READ: dict[str, tuple[pa.Table, tuple[str, str]]] = {
    "dictionary": (table(labels=pa.array(LABELS).dictionary_encode()), ("cat", "dog")),
    "large_string": (table(labels=pa.array(LABELS, pa.large_string())), ("cat", "dog")),
    "string_view": (table(labels=pa.array(LABELS, pa.string_view())), ("cat", "dog")),
    "bytes as labels": (table(labels=[label.encode() for label in LABELS]), ("cat", "dog")),
    "blanks around labels": (table(labels=[" cat", "dog\t", "cat ", "dog"] * 3), ("cat", "dog")),
    "whole numbers": (table(labels=NUMBERS), ("0", "1")),
    "small numbers": (table(labels=pa.array(NUMBERS, pa.uint8())), ("0", "1")),
    "floats": (table(labels=[float(number) for number in NUMBERS]), ("0", "1")),
    "decimals": (table(labels=pa.array(NUMBERS).cast(pa.decimal128(19))), ("0", "1")),
    "truth values": (table(labels=[number == 1 for number in NUMBERS]), ("false", "true")),
    "dates": (table(labels=pa.array(NUMBERS, pa.date32())), ("1970-01-01", "1970-01-02")),
    "words for nothing": (table(labels=["None", "nan"] * 6), ("None", "nan")),
    "accents apart": (table(labels=["Café", "Cafe\u0301", "dog", "dog"] * 3), ("Café", "dog")),
    "large_binary": (table(pa.array(IMAGES, pa.large_binary())), ("cat", "dog")),
    "binary_view": (table(pa.array(IMAGES, pa.binary_view())), ("cat", "dog")),
    "struct": (table(structs(pa.struct({"path": pa.string(), "bytes": pa.binary()}))), ("cat", "dog")),
    "struct of binary_view": (table(structs(pa.struct({"bytes": pa.binary_view()}))), ("cat", "dog")),
    "pandas": (pandas(LABELS, index=["a"] * 12), ("cat", "dog")),
    "categories of pandas": (pandas(pd.Categorical(LABELS, ["dog", "cat", "x"])), ("cat", "dog")),
    "columns of other kinds": (table(boxes=[[{"x": 1}]] * 12, note=[None] * 12), ("cat", "dog")),
    "columns of one name": (pa.table([IMAGES, LABELS, LABELS, LABELS], ["image", "label", "x", "x"]), ("cat", "dog")),
    "damaged features": (table(labels=NUMBERS).replace_schema_metadata({"huggingface": b"\xff{"}), ("0", "1")),
    "features of another shape": (table(labels=NUMBERS).replace_schema_metadata({"huggingface": b"[]"}), ("0", "1")),
    "no split in any row": (table(split=pa.array([None] * 12, pa.string())), ("cat", "dog")),
}


@pytest.mark.parametrize(("content", "classes"), READ.values(), ids=READ)
def test_labels_and_images_of_every_type(
    prepared: Prepared, tmp_path: Path, content: pa.Table, classes: tuple[str, str]
) -> None:
    root = written(tmp_path / "in", content)
    assert kept_by_class(prepared(root, source="parquet")) == dict.fromkeys(classes, 6)
    items = list(slices.items(slices.find_slices(str(root)), [*classes]))
    assert [item.read() for item in items] == IMAGES
    assert sorted(str(item.truth) for item in items) == sorted(6 * classes)


def test_rows_without_an_image_are_rejects_and_rows_of_the_results(prepared: Prepared, tmp_path: Path) -> None:
    images = [None if number == 3 else {"bytes": b"" if number == 4 else image} for number, image in enumerate(IMAGES)]
    images[5] = {"bytes": None}
    root = written(tmp_path / "in", table(pa.array(images)), table([None, b"x"], ["cat", "cat"]))
    dataset = prepared(root, source="parquet", split=[0.4, 0.3, 0.3])
    expected = {f"0.parquet row {row}": "empty" for row in (3, 4, 5)}
    assert rejects(dataset) == {**expected, "1.parquet row 0": "empty", "1.parquet row 1": "not_an_image"}
    found = [item.read() for item in slices.items(slices.find_slices(str(root)), LABELS)]
    assert [number for number, data in enumerate(found) if not data] == [3, 4, 5, 12]


def test_files_of_different_types_are_one_data_set(prepared: Prepared, tmp_path: Path) -> None:
    empty = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.null())})
    parts = [table(structs(pa.struct({"bytes": pa.large_binary()}))).slice(0, 6), table().slice(6), empty]
    root = written(tmp_path / "in", *parts)
    assert kept_by_class(prepared(root, source="parquet")) == {"cat": 6, "dog": 6}
    assert [item.read() for item in slices.items(slices.find_slices(str(root)), LABELS)] == IMAGES


def test_row_groups_without_a_row_take_no_part(prepared: Prepared, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    with pq.ParquetWriter(file, table().schema) as writer:
        for start, count in ((0, 0), (0, 7), (7, 0), (7, 5), (12, 0)):
            writer.write_table(table().slice(start, count))
    assert pq.ParquetFile(file).num_row_groups == 5
    assert kept_by_class(prepared(file, source="parquet")) == {"cat": 6, "dog": 6}
    found = slices.find_slices(str(file))
    assert [(entry.row_group, entry.images) for entry in found] == [(1, 7), (3, 5)]
    assert [len(part) for part in slices.cut(found, PredictConfig(), 8)] == [1, 1]
    assert [item.read() for item in slices.items(found, LABELS)] == IMAGES


def test_paths_in_bytes_are_the_names_of_the_rows(tmp_path: Path) -> None:
    root = written(tmp_path / "in", table(path=[b"Stra\xc3\x9fe.png", None] * 6))
    names = [item.path for item in slices.items(slices.find_slices(str(root)), LABELS)][:2]
    assert names == ["Straße.png", f"{root}/0.parquet#0:1"]


def buffered(content: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink)
    return sink.getvalue().to_pybytes()


REFUSED: dict[str, tuple[pa.Table | bytes, str, str]] = {
    "no row": (table().slice(0, 0), "without any image", "no row in its Parquet tables"),
    "a struct in the struct": (
        table(pa.array([{"bytes": {"bytes": image}} for image in IMAGES])),
        r"with struct<bytes: struct<bytes: binary>>\. Set data\.bytes_column",
        r"image \(struct<bytes: struct<bytes: binary>>\)",
    ),
    "images as dictionary": (
        table(pa.array(IMAGES).dictionary_encode()),
        "with dictionary<values=binary",
        r"image \(dictionary<values=binary",
    ),
    "a column twice": (
        pa.Table.from_arrays([pa.array(IMAGES), pa.array(LABELS), pa.array(LABELS)], ["image", "label", "label"]),
        "the column label once",
        "the column label once",
    ),
    "capital letters": (pa.table({"Image": IMAGES, "Label": LABELS}), "columns 'Image', 'Label'", r"Image \(binary\)"),
    "no byte": (b"", "Parquet file size is 0 bytes", "Parquet file size is 0 bytes"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "magic bytes not", "magic bytes not"),
    "cut": (buffered(table())[:500], "magic bytes not found", "magic bytes not found"),
}


@pytest.mark.parametrize(("content", "training", "prediction"), REFUSED.values(), ids=REFUSED)
def test_what_holds_no_images_is_named_in_one_line(
    prepared: Prepared, tmp_path: Path, content: pa.Table | bytes, training: str, prediction: str
) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(content if isinstance(content, bytes) else buffered(content))
    with pytest.raises(UserError, match=training) as caught:
        prepared(file, source="parquet")
    assert "\n" not in str(caught.value) and not (tmp_path / "prepared").exists()
    with pytest.raises(UserError, match=prediction) as caught:
        slices.find_slices(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None, *LABELS[1:]], "none in row 0 of a.parquet"),
        (["  ", *LABELS[1:]], "none in row 0 of a.parquet"),
        ([*LABELS[:-1], "dög".encode("latin-1")], "text or numbers"),
        ([["cat"]] * 12, r"Received: list<element: string>|Received: list<item: string>"),
        ([{"a": "cat"}] * 12, r"Received: struct<a: string>"),
    ],
    ids=["null", "blanks", "bytes that are no UTF-8", "lists", "structs"],
)
def test_labels_that_are_none_are_refused_for_training_and_no_truth_for_prediction(
    prepared: Prepared, tmp_path: Path, labels: list[Any], message: str
) -> None:
    if any(isinstance(label, bytes) for label in labels):
        labels = [label if isinstance(label, bytes) else label.encode() for label in labels]
    pq.write_table(table(labels=labels), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "a.parquet", source="parquet")
    truths = [item.truth for item in slices.items(slices.find_slices(str(tmp_path)), ["cat", "dog", "None"])]
    assert set(truths) <= {None, "cat", "dog"} and truths.count(None) >= 1
