"""Whole preparations without a Spark start: the tasks run here, one after the other."""

import errno
import json
import logging
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from distributed_cls import jobs, storage
from distributed_cls.config import ClusterConfig, Config, DataConfig
from distributed_cls.contracts import index, manifest
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.dataset import prepare, reading, verify, work
from distributed_cls.errors import UserError
from distributed_cls.run import progress
from distributed_cls.run_context import Run
from distributed_cls.text import printable

from .conftest import Here
from .support import encoded, photo

GIVEN = {"source": "split_folder"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "in", "cat", "dog")


def pictures(root: Path, *classes: str, count: int = 8, first: int = 0) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(first, first + count):
            (root / name / f"{image}.png").write_bytes(encoded(photo(16, 16, 1000 * number + image), "PNG"))
    return root


def configured(path: Path | str, **settings: Any) -> DataConfig:
    return DataConfig(
        **{"name": "t", "source": "folder", "path": str(path), "image_size": 16, "near_duplicates": None, **settings}
    )


def prepared(here: Here, path: Path | str, root: Path | str, **settings: Any) -> Dataset:
    return prepare.prepare(here.get, configured(path, max_reject_fraction=0.3, **settings), str(root))


def kept(dataset: Dataset) -> dict[str, str]:
    """The class of every image that was kept, by its path."""
    table = index.of_dataset(dataset.path)
    table = table.filter(pc.is_null(table["reason"]))
    return dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))


def unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These files cannot be opened (the tests may run as root, to whom every mode is readable)."""
    real = os.open

    def opener(path: str, flags: int) -> int:
        if Path(path).name in names:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags | os.O_NONBLOCK)

    monkeypatch.setattr(reading, "_open_at_once", opener)


# ── what could not be read ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_image_that_could_not_be_read_is_read_again_by_the_next_run(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    unreadable(monkeypatch, "3.png", "4.png")
    first = prepared(here, folder, tmp_path / "out")
    assert first.manifest.rejected_by_reason == {"unreadable": 4} and here.decoded == 16
    caplog.clear()
    still = prepared(here, folder, tmp_path / "out")
    assert still.reused and still.path == first.path and here.decoded == 20, "only these are read again"
    assert "4 images still cannot be read" in caplog.text and not (tmp_path / "out" / ".work").exists()
    unreadable(monkeypatch, "4.png")
    second = prepared(here, folder, tmp_path / "out")
    assert second.manifest.rejected_by_reason == {"unreadable": 2} and here.decoded == 24
    unreadable(monkeypatch)
    third = prepared(here, folder, tmp_path / "out")
    assert third.manifest.rejected == 0 and len(kept(third)) == 16 and here.decoded == 26
    assert verify.verify(third.path).records == 16
    assert prepared(here, folder, tmp_path / "out").path == third.path and here.started == 4


def test_a_read_error_is_no_row_that_a_later_data_set_takes_over(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "3.png")
    prepared(here, folder, tmp_path / "out")
    unreadable(monkeypatch)
    pictures(folder, "cat", count=1, first=50)
    assert prepared(here, folder, tmp_path / "out").manifest.rejected == 0
    assert here.decoded == 16 + 3


def test_a_run_that_met_too_many_read_errors_reads_them_again(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, *(f"{number}.png" for number in range(6)))
    with pytest.raises(UserError, match=r"12 of 16 \(unreadable 12; for example cat/0.png: Permission denied"):
        prepared(here, folder, tmp_path / "out")
    unreadable(monkeypatch)
    assert prepared(here, folder, tmp_path / "out").manifest.rejected == 0
    assert here.decoded == 16 + 12


def test_a_folder_that_was_moved_and_became_readable(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "3.png")
    first = prepared(here, folder, tmp_path / "out")
    folder.rename(tmp_path / "moved")
    unreadable(monkeypatch)
    second = prepared(here, tmp_path / "moved", tmp_path / "out")
    assert second.path != first.path and second.manifest.rejected == 0 and here.decoded == 16 + 2


def test_what_is_no_file_is_remembered(here: Here, folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "latest.png").symlink_to("latest.png")
    (folder / "dog" / "gone.png").symlink_to("nowhere.png")
    first = prepared(here, folder, tmp_path / "out")
    assert first.manifest.rejected_by_reason == {"missing": 2}
    assert prepared(here, folder, tmp_path / "out").reused and here.started == 1
    (folder / "dog" / "nowhere.png").write_bytes(encoded(photo(16, 16, 77), "PNG"))
    second = prepared(here, folder, tmp_path / "out")
    assert second.manifest.rejected_by_reason == {"missing": 1} and second.manifest.duplicates == 1


# ── the identity of a data set ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wanted", [1, 3, 64])
def test_a_wish_for_shards_is_met_once(here: Here, folder: Path, tmp_path: Path, wanted: int) -> None:
    first = prepared(here, folder, tmp_path / "out", shards=wanted)
    train = first.manifest.shards["train"]
    assert len(train) == min(wanted, first.manifest.records("train")) and all(shard.records for shard in train)
    for same in (wanted, None):
        assert prepared(here, folder, tmp_path / "out", shards=same).path == first.path
    assert here.started == 1


def test_any_number_of_workers_has_one_data_set(
    here: Here, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the jobs ask for it; also where another number of workers was the first."""
    said = []

    def spark() -> Any:
        said.append(capsys.readouterr().out)
        return here.get()

    def of(workers: int, root: str) -> Dataset:
        cluster = ClusterConfig(workers=workers)
        config = Config(data=configured(folder), cluster=cluster, dataset_root=str(tmp_path / root))
        here.slots = workers
        with progress.showing("lines") as display:
            return jobs._prepare(Run(config, tmp_path, spark), spark, display)

    first, second, elsewhere = of(2, "out"), of(4, "out"), of(4, "other")
    assert (first.reused, second.reused, second.path) == (False, True, first.path)
    assert here.started == 2 and here.decoded == 32
    assert elsewhere.manifest.fingerprint == first.manifest.fingerprint
    assert elsewhere.manifest.shards == first.manifest.shards
    assert "preparing the images …" in said[0], "told before Spark is asked for, off a terminal too"


def test_a_data_set_of_the_earlier_release_is_found(here: Here, folder: Path, tmp_path: Path) -> None:
    first = prepared(here, folder, tmp_path / "out", shards=2)
    as_version_1(first.path)
    again = prepared(here, folder, tmp_path / "out")
    assert again.reused and again.path == first.path
    assert (again.manifest.source, again.manifest.source_root) == ("folder", str(folder))
    pictures(folder, "cat", count=2, first=50)
    second = prepared(here, folder, tmp_path / "out")
    assert second.manifest.generation == 2 and here.decoded == 16 + 2


def as_version_1(path: str) -> None:
    """Rewrite manifest and index as version 1 wrote them."""
    file = Path(path, manifest.FILE)
    content = json.loads(file.read_text())
    content["source"] = f"{content['source']}:{content.pop('source_root')}"
    file.write_text(json.dumps({**content, "schema_version": 1}))
    for name in (index.FILE, index.REJECTS_FILE):
        pq.write_table(pq.read_table(Path(path, name)).replace_schema_metadata(None), Path(path, name))


def test_a_data_set_is_read_where_nothing_may_be_written(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable(monkeypatch, "3.png")
    first = prepared(here, folder, tmp_path / "out")

    def refuse(_folder: str, setting: str) -> None:
        raise UserError(f"Expected {setting} to be a folder that can be written.")

    monkeypatch.setattr(storage, "check_writable", refuse)
    assert prepared(here, folder, tmp_path / "out").path == first.path
    assert "read-only" in caplog.text


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_that_are_not_utf_8_are_prepared_like_any_other(here: Here, folder: Path, tmp_path: Path) -> None:
    raw = os.fsencode(folder)
    for number in range(8):
        with open(raw + b"/cat/caf\xe9-%d.png" % number, "wb") as stream:  # noqa: PTH123 - pathlib knows no bytes
            stream.write(encoded(photo(16, 16, 500 + number), "PNG"))
    os.rename(raw + b"/dog", raw + b"/Citro\xebn")  # noqa: PTH104
    with open(raw + b"/cat/br\xfcllt.png", "wb") as stream:  # noqa: PTH123
        stream.write(b"no image")
    dataset = prepared(here, folder, tmp_path / "out")
    assert dataset.manifest.classes == ["Citroën", "cat"] and len(kept(dataset)) == 24
    assert [printable(reject["path"]) for reject in dataset.manifest.rejects] == ["cat/br\\xfcllt.png"]
    assert verify.verify(dataset.path).records == 24
    assert prepared(here, folder, tmp_path / "out").reused


def test_a_data_path_that_is_not_utf_8(here: Here, folder: Path, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/pics \xfc"
    os.rename(folder, raw)  # noqa: PTH104
    dataset = prepared(here, os.fsdecode(raw), tmp_path / "out \udcfc")
    assert len(kept(dataset)) == 16 and dataset.path.encode()
    assert verify.verify(dataset.path).records == 16


def test_accents_of_a_mac_and_of_others_are_one_class(here: Here, tmp_path: Path) -> None:
    for number, name in enumerate(("Citroën", unicodedata.normalize("NFD", "Citroën"), "Audi")):
        pictures(tmp_path / "in", name, first=20 * number)
    assert prepared(here, tmp_path / "in", tmp_path / "out").manifest.classes == ["Audi", "Citroën"]


# ── said before anything is decoded ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ({"cat": 8, "dog": 3}, {}, r"at least 5 images per class.*train, val, test.*class dog with 3\."),
        ({"cat": 4, "dog": 3, "owl": 9}, {}, r"class dog with 3 \(and 1 more classes like it\)"),
        ({"cat": 8, "dog": 6}, {"split": [0.9, 0.05, 0.05]}, "at least 14 images"),
        ({"dev": 8, "train": 8}, {}, "with only dev, train. Set data=split_folder"),
        (
            {"cat/train": 4, "cat/test": 8, "dog/train": 8},
            {"source": "split_folder"},
            "given split test.*dog with none",
        ),
        (
            {"train/cat": 1, "test/cat": 8, "train/dog": 8, "test/dog": 1},
            {"source": "split_folder"},
            "class cat with 1",
        ),
        ({"cat/train": 8, "cat/new": 8, "dog/test": 8}, {"source": "split_folder"}, "Received: cat/new in"),
    ],
)
def test_too_few_images_are_told_at_once(
    here: Here, tmp_path: Path, counts: dict[str, int], settings: dict[str, Any], message: str
) -> None:
    for name, count in counts.items():
        pictures(tmp_path / "in", name, count=count)
    with pytest.raises(UserError, match=message) as caught:
        prepared(here, tmp_path / "in", tmp_path / "out", **settings)
    assert "\n" not in str(caught.value) and here.started == 0 and not (tmp_path / "out").exists()


def test_a_class_without_a_usable_image_is_told_with_the_reasons(here: Here, folder: Path, tmp_path: Path) -> None:
    for number in range(8):
        (folder / "owl").mkdir(exist_ok=True)
        (folder / "owl" / f"{number}.png").write_bytes(b"" if number else b"text")
    with pytest.raises(UserError, match=r"class owl with 0 usable images.*left out: 7 empty, 1 not_an_image"):
        prepare.prepare(here.get, configured(folder, max_reject_fraction=1.0), str(tmp_path / "out"))


def test_an_empty_class_folder_is_told(
    here: Here, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "owl").mkdir()
    (folder / "bat" / "@eaDir").mkdir(parents=True)
    prepared(here, folder, tmp_path / "out")
    assert "Folders without images make no class: 2, for example bat" in caplog.text


@pytest.mark.parametrize("own", ["runs/2026-01-01/metrics.jsonl", "datasets/x-0123456789abcdef/index.parquet"])
def test_results_of_this_program_are_not_taken_for_a_class(here: Here, folder: Path, tmp_path: Path, own: str) -> None:
    (folder / own).parent.mkdir(parents=True)
    (folder / own).write_text("x")
    with pytest.raises(UserError, match=rf"Received: a .*, {Path(own).parent}, in .*Move it"):
        prepared(here, folder, tmp_path / "out")


def test_a_class_may_be_called_train(here: Here, tmp_path: Path) -> None:
    for number, name in enumerate(("bus", "car", "train")):
        for split in ("train", "val", "test"):
            pictures(tmp_path / "in", f"{name}/{split}", first=50 * number + 10 * len(split))
    dataset = prepared(here, tmp_path / "in", tmp_path / "out", source="split_folder")
    assert dataset.manifest.classes == ["bus", "car", "train"]
    assert dataset.manifest.counts["val"]["train"] > 0


# ── the place of the data sets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("number", "found"), [(errno.ENOSPC, "No space left"), (errno.EDQUOT, "quota"), (errno.EACCES, "Permission denied")]
)
def test_a_place_that_is_full_or_not_ours_is_one_line_and_the_next_run_goes_on(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, found: str
) -> None:
    real = work.write_shards

    def full(*_: Any) -> Iterator[Any]:
        raise RuntimeError(f"Job aborted: OSError: [Errno {number}] {os.strerror(number)}: 'x'")  # as Spark tells it

    monkeypatch.setattr(work, "write_shards", full)
    with pytest.raises(UserError, match=f"Expected dataset_root to have room.*{found}") as caught:
        prepared(here, folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(work, "write_shards", real)
    assert not prepared(here, folder, tmp_path / "out").reused and here.decoded == 16


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_root_of_another_user_is_one_line(here: Here, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    prepared(here, folder, root)
    root.chmod(0o700)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"Expected dataset_root .*\(Permission denied\)") as caught:
            prepared(here, folder, root)
    finally:
        os.seteuid(0)
    assert "\n" not in str(caught.value)


# ── sources that hold their images ──────────────────────────────────────────────────────────────────────────────────


def test_digits_are_one_table_and_1797_records(here: Here, tmp_path: Path) -> None:
    config = DataConfig(near_duplicates=None)
    dataset = prepare.prepare(here.get, config, str(tmp_path))
    assert sum(dataset.manifest.records(split) for split in manifest.SPLITS) == 1797 - dataset.manifest.duplicates
    assert [path.name for path in (tmp_path / ".sources").iterdir()] == ["digits.parquet"]
    assert prepare.prepare(here.get, config, str(tmp_path)).reused
    (tmp_path / ".sources" / "digits.parquet").unlink()  # written again, it is the same data
    assert prepare.prepare(here.get, config, str(tmp_path)).reused and here.started == 1


def test_no_two_images_of_a_table_share_an_identity(here: Here, tmp_path: Path) -> None:
    images = [encoded(photo(16, 16, number), "PNG") for number in range(20)]
    table = pa.table({"image": images, "label": [number % 2 for number in range(20)]})
    index.write(str(tmp_path / "t.parquet"), table)
    dataset = prepared(here, tmp_path / "t.parquet", tmp_path / "out", source="parquet")
    assert sum(dataset.manifest.records(split) for split in manifest.SPLITS) == 20


def test_a_run_whose_parts_another_one_has_removed_uses_what_that_one_has_published(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both decode into one work folder; the faster one publishes, and removes it before the slower one looks again."""
    faster: list[Dataset] = []
    begun = []
    known = prepare.Preparation._known

    def slower(run: prepare.Preparation) -> pa.Table:
        if not begun and any(name.startswith(work.PART) for name in storage.names(run.work_folder)):
            begun.append(True)
            faster.append(prepared(here, folder, tmp_path / "root"))
        return known(run)

    monkeypatch.setattr(prepare.Preparation, "_known", slower)
    dataset = prepared(here, folder, tmp_path / "root")
    assert faster and dataset.path == faster[0].path and dataset.reused
