"""How a predict job is cut into parts, written down and found again. No Spark, no TensorFlow."""

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distributed_cls import storage
from distributed_cls.config.inference_sections import PredictConfig
from distributed_cls.contracts import predict_output
from distributed_cls.contracts.predict_output import InputSlice, PredictJob
from distributed_cls.errors import UserError
from distributed_cls.inference import slices
from distributed_cls.inference.bulk import file_item, prefetch, truth_from_path
from distributed_cls.inference.stream import _note_unseen, _watched, balance_by_cost
from distributed_cls.predictor.image_input import BadImageError
from distributed_cls.run.progress import Display


def entries(*sizes: int) -> list[InputSlice]:
    return [InputSlice(f"/{number:04d}.png", None, 1, size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 1001])
def test_parts_hold_every_image_once_in_order(count: int, slots: int) -> None:
    whole = entries(*(1000 + 37 * (number % 11) for number in range(count)))
    parts = slices.cut(whole, PredictConfig(part_images=50), slots)
    assert [entry for part in parts for entry in part] == whole
    if count >= 100:
        assert len(parts) % slots == 0
        assert max(len(part) for part in parts) <= 60


def test_parts_are_balanced_by_work() -> None:
    large = 10_000_000
    parts = slices.cut(entries(*[large] * 10, *[0] * 1000), PredictConfig(part_images=10_000), 2)
    work = [sum(slices._cost(entry) for entry in part) for part in parts]
    assert max(work) - min(work) <= large + 20_000


def test_large_images_make_more_parts() -> None:
    parts = slices.cut(entries(*[2**20] * 100), PredictConfig(part_megabytes=10), 1)
    assert len(parts) == 10


def test_a_plan_is_found_again_and_not_mistaken(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    parts = slices.cut(entries(1, 2, 3), PredictConfig(part_images=1), 1)
    job = PredictJob("1", "/in", 5)
    assert slices.load(output, job) is None
    slices.save(output, parts, job)
    assert slices.load(output, job) == parts
    with pytest.raises(UserError, match=r"results of model_version=1, predict\.top_k=5\."):
        slices.load(output, PredictJob("2", "/in", 3))
    (tmp_path / "out" / predict_output.PLAN).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"Expected a Parquet file at .*_plan"):
        slices.load(output, job)


def test_results_of_something_else_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "other.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="other Parquet files"):
        slices.load(str(tmp_path), PredictJob("1", "/in", 5))


def test_tables_are_read_by_row_group_with_labels_by_number_or_name(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": b"1", "path": "x"}, {"bytes": b"2", "path": "y"}, None], "label": [1, 0, 7]})
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = slices.find_slices(str(tmp_path))
    assert [(entry.row_group, entry.images) for entry in found] == [(0, 2), (1, 1)]
    assert slices.unread_labels(found, ["cat", "dog"]) == ""
    items = list(slices.items(found, ["cat", "dog"]))
    assert [item.read() for item in items] == [b"1", b"2", b""]
    assert [item.truth for item in items] == ["dog", "cat", None]
    assert [item.path.rsplit("#", 1)[1] for item in items] == ["0:0", "0:1", "1:0"]


def test_the_class_is_the_folder_when_it_is_a_class() -> None:
    assert truth_from_path("/data/cat/1.png", ["cat"]) == "cat"
    assert truth_from_path("/data/2024/1.png", ["cat"]) is None
    assert truth_from_path("1.png", ["cat"]) is None
    assert truth_from_path("/data/Citroe\u0308n/1.png", ["Citro\u00ebn"]) == "Citro\u00ebn"  # as a Mac names it


def test_prefetch_gives_the_same_and_raises_the_same() -> None:
    assert list(prefetch(range(10))) == list(range(10))
    assert list(prefetch([])) == []

    def failing() -> object:
        yield 1
        raise ValueError("here")

    taken = []
    with pytest.raises(ValueError, match="here"):
        taken.extend(prefetch(failing()))
    endless = prefetch(iter(int, 1))
    assert next(endless) == 0
    endless.close()


def test_a_micro_batch_is_balanced_by_cost() -> None:
    found = [(f"/{number}", 1_000_000 * (number % 3)) for number in range(30)]
    lists = balance_by_cost(found, 4)
    assert sorted(file for files in lists for file in files) == sorted(found)
    costs = [sum(size for _, size in files) for files in lists]
    assert max(costs) - min(costs) <= 2_000_000
    assert balance_by_cost(found[:1], 4) == [[("/0", 0)]]


CLASSES = ["bag", "boot"]


def write_list(folder: Path, text: str, name: str = "list.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_csv_file_lists_images_with_their_classes(tmp_path: Path) -> None:
    source = write_list(tmp_path, 'path,size,label\n"a, b é.jpg",3,bag\n/data/boot/2.png,4,\ns3://x/3.png,5,hat\n')
    assert [(item.path, item.truth) for item in slices.items(slices.find_slices(source), CLASSES)] == [
        (f"{tmp_path}/a, b é.jpg", "bag"),
        ("/data/boot/2.png", "boot"),  # by its folder, as the list does not say
        ("s3://x/3.png", None),  # not a class of the model
    ]


def test_a_list_from_a_spreadsheet_that_writes_semicolons_and_classes_that_look_like_nothing(tmp_path: Path) -> None:
    source = write_list(tmp_path, "\ufeffpath;label\na, b.jpg;007\nc.jpg;NA\nd.jpg;\n")
    found = [(Path(item.path).name, item.truth) for item in slices.items(slices.find_slices(source), ["007", "NA"])]
    assert found == [("a, b.jpg", "007"), ("c.jpg", "NA"), ("d.jpg", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\nx,bag\n", "name, label"),
        ("path,label\n", "0 rows"),
        ("", "Empty CSV file"),
        ("path,label\na,b,c\n", "Expected 2 columns, got 3"),
    ],
)
def test_a_csv_file_that_lists_nothing_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        slices.find_slices(write_list(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_pictures_that_a_camera_named_with_an_underscore_are_not_left_out(tmp_path: Path) -> None:
    for name in ("_DSC0001.JPG", "_SUCCESS", ".hidden.jpg", "Thumbs.db", "a.jpg", "words.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [Path(entry.path).name for entry in slices.find_slices(str(tmp_path))]
    assert found == ["_DSC0001.JPG", "a.jpg", "words.txt"]


def test_pictures_beside_tables_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    (tmp_path / "README.md").write_text("a table with its description")
    assert len(slices.find_slices(str(tmp_path))) == 1
    (tmp_path / "b.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.parquet beside .*b\.jpg"):
        slices.find_slices(str(tmp_path))


@pytest.mark.parametrize(
    ("label", "classes", "numbered", "truth"),
    [
        (1, CLASSES, [], None),  # which class has number 1 is not said anywhere
        (0, CLASSES, ["shoe", "boot"], None),
        (1, CLASSES, ["shoe", "boot"], "boot"),
        (-1, CLASSES, ["shoe", "boot"], None),  # Hugging Face's "no label"
        (2, CLASSES, ["shoe", "boot"], None),
        ("boot", CLASSES, [], "boot"),
        (" boot ", CLASSES, [], "boot"),
        ("hat", CLASSES, [], None),
        (None, CLASSES, [], None),
        (7, ["3", "7"], [], "7"),  # a name, and not the eighth class
        (1, ["3", "7"], [], None),
        ("Citroe\u0308n", ["Citro\u00ebn"], [], "Citro\u00ebn"),
    ],
)
def test_the_class_that_a_label_of_a_table_means(
    label: object, classes: list[str], numbered: list[str], truth: str | None
) -> None:
    assert slices._truth(label, classes, numbered) == truth


def test_labels_that_nothing_explains_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "label": [1]}), tmp_path / "t.parquet")
    found = slices.find_slices(str(tmp_path))
    assert slices.unread_labels(found, ["cat", "dog"]) == f"{tmp_path / 't.parquet'} (column label)"
    assert slices.unread_labels(found, ["0", "1"]) == ""  # the numbers are the classes' names


def test_results_do_not_go_among_the_images() -> None:
    slices.refuse_inside("/data/in", "/data/in-results")
    for output in ("/data/in", "/data/in/results"):
        with pytest.raises(UserError, match=r"outside of data\.path"):
            slices.refuse_inside("/data/in", output)


def test_a_folder_whose_name_spark_cannot_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"Received: /data/caf\\xe9\. Rename the folder"):
        _watched("/data/caf\udce9")


def test_what_spark_leaves_out_of_a_watched_folder_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"a.png", b"_b.png", b"_c.png", b"caf\xe9.png"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):  # noqa: PTH123 - pathlib knows no bytes
            pass
    _note_unseen(str(tmp_path), Display(None))
    printed = " ".join(capsys.readouterr().out.split())
    assert "names that begin with _ are not looked at, 2 here, such as _b.png: rename them" in printed
    assert "names that are not UTF-8 cannot be read by Spark, 1 here, such as caf\\xe9.png: rename them" in printed


def test_binary_views_and_large_strings_are_read(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"1", b"2"]), "label": pa.array(["boot", "bag"], pa.large_string())})
    pq.write_table(table.set_column(0, "image", table["image"].cast(pa.binary_view())), tmp_path / "t.parquet")
    found = list(slices.items(slices.find_slices(str(tmp_path)), CLASSES))
    assert [(item.read(), item.truth) for item in found] == [(b"1", "boot"), (b"2", "bag")]


def test_reading_is_repeated_while_a_device_fails_and_a_pipe_or_a_film_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    calls: list[str] = []

    def failing(path: str) -> bytes:
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.EIO, "Input/output error")
        return b"x"

    monkeypatch.setattr(storage, "read_bytes", failing)
    assert file_item(str(file)).read() == b"x"
    assert len(calls) == 3
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "film.mp4").touch()
    os.truncate(tmp_path / "film.mp4", 2**33)
    for item, reason in (
        (file_item(str(tmp_path / "pipe")), "missing"),
        (file_item(str(tmp_path / "film.mp4")), "too_many_bytes"),
    ):
        with pytest.raises(BadImageError) as raised:
            item.read()
        assert raised.value.reason == reason
    with pytest.raises(BadImageError):
        file_item("s3://x/film.mp4", size=2**33).read()
    assert len(calls) == 3
