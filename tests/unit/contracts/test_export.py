"""What an exported model folder may look like, and how everything else is refused. No TensorFlow."""

import json
import math
from pathlib import Path

import google_crc32c
import pytest

from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.export import find_export, load_export
from distributed_cls.errors import UserError


def write_export(folder: Path, **changes: object) -> Path:
    """A folder with the outward form of an export."""
    folder.mkdir(parents=True)
    data = b"weights"
    (folder / "model.keras").write_bytes(data)
    stamp = {"bytes": len(data), "crc32c": google_crc32c.Checksum(data).hexdigest().decode()}
    about = {
        "schema_version": 3,
        "name": "cnn",
        "created": "2026-01-01T00:00:00+00:00",
        "classes": ["a", "b"],
        "image_size": 32,
        "resize": "stretch",
        "channels": 3,
        "files": {"model.keras": stamp},
    }
    (folder / "model.json").write_text(json.dumps({**about, **changes}))
    return folder


def test_a_whole_export_is_read(tmp_path: Path) -> None:
    export = load_export(str(write_export(tmp_path / "model")))
    assert (export.name, export.classes, export.image_size, export.resize) == ("cnn", ["a", "b"], 32, "stretch")
    assert export.materialize() is export
    assert export.channels == 3
    assert load_export(str(write_export(tmp_path / "grey", channels=1))).channels == 1
    older = write_export(tmp_path / "older", schema_version=1, channels=None)
    assert load_export(str(older)).channels == 3, "version 1 knew no other number"


def test_confidence_is_read_and_the_first_version_had_none(tmp_path: Path) -> None:
    second = {"temperature": 1.5, "threshold": 0.4, "coverage": 0.95}
    read = load_export(str(write_export(tmp_path / "second", schema_version=2, confidence=second))).confidence
    assert read == Confidence(1.5, 0.4, 0.95, RejectBy.CONFIDENCE)
    assert read.accepts(0.4, math.nan) and not read.accepts(0.39, math.nan)
    newest = {**second, "threshold": 5.5, "reject_by": "energy"}
    read = load_export(str(write_export(tmp_path / "new", confidence=newest))).confidence
    assert read == Confidence(1.5, 5.5, 0.95, RejectBy.ENERGY)
    assert read.accepts(0.1, 5.5) and not read.accepts(0.99, 5.4)
    older = load_export(str(write_export(tmp_path / "old", schema_version=1))).confidence
    assert older == Confidence() and older.accepts(0.0, math.nan)


def test_a_run_folder_and_numbered_versions_are_found(tmp_path: Path) -> None:
    model = write_export(tmp_path / "run" / "model")
    assert find_export(str(tmp_path / "run")) == model
    for number in ("2", "10"):
        write_export(tmp_path / "versions" / number)
    (tmp_path / "versions" / "11").mkdir()  # empty: not yet one
    (tmp_path / "versions" / "notes").mkdir()
    assert find_export(str(tmp_path / "versions")).name == "10"


def test_the_version_changes_exactly_with_the_model(tmp_path: Path) -> None:
    same = [load_export(str(write_export(tmp_path / name))).version for name in ("one", "two")]
    other = load_export(str(write_export(tmp_path / "three", created="2027-01-01T00:00:00+00:00"))).version
    assert same[0] == same[1] != other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 4}, "schema_version=3 or earlier in .*Received: schema_version=4"),
        ({"channels": "three"}, r"channels \(int\)"),
        ({"confidence": {"temperature": "warm"}}, "confidence.temperature: expected a number"),
        ({"confidence": {"reject_by": "luck"}}, "confidence.reject_by: expected one of energy, confidence"),
        ({"classes": "ab"}, r"classes \(list\)"),
        ({"files": {"saved_model/saved_model.pb": {"bytes": 1, "crc32c": "0"}}}, "saved_model.pb is missing"),
        ({"files": {"model.keras": {"bytes": 7, "crc32c": "00000000"}}}, "model.keras as it was exported"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_export(str(write_export(tmp_path / "model", **changes)))


def test_no_export_and_damaged_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_export(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no model\.json"):
        load_export(str(tmp_path))
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UserError, match="damaged JSON"):
        load_export(str(tmp_path))
