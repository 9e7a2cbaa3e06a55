"""``doctor.json`` comes back the same; damage and what a newer release wrote are refused."""

import json
from pathlib import Path

import pytest

from distributed_cls.contracts import doctor_report
from distributed_cls.contracts.doctor_report import FILE, Grade, Verdict
from distributed_cls.errors import UserError

CHECKS = [
    Verdict("Spark", Grade.OK, "4.1.0 on local[2]"),
    Verdict("folders", Grade.FAULT, "/data/ü: no permission", "Set dataset_root."),
    Verdict("ranks", Grade.UNKNOWN, "no barrier stage can start"),
]


def test_the_verdicts_are_the_same_again(tmp_path: Path) -> None:
    doctor_report.write(tmp_path, CHECKS)
    assert doctor_report.read(tmp_path) == CHECKS
    assert (tmp_path / FILE).read_text(encoding="utf-8") == doctor_report.dumps(CHECKS)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"checks": [{"check": "Spark", "grade": "splendid", "found": ""}]},
        {"checks": [{"check": "Spark"}]},
        {"checks": None},
    ],
)
def test_damage_and_newer_versions_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    content = {**json.loads(doctor_report.dumps(CHECKS)), **change}
    (tmp_path / FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="Run job=doctor again"):
        doctor_report.read(tmp_path)


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FileNotFoundError"):
        doctor_report.read(tmp_path)
