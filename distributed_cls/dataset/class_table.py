"""Image counts per class and split, and by reason of what is left out. For the terminal and for dataset.html."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls.contracts import index, rejects
from distributed_cls.contracts.manifest import SPLITS, Dataset
from distributed_cls.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_MOST_CLASSES = 40


@dataclass(frozen=True)
class ClassRow:
    """One class: images kept in each split, rejected by reason, and left out as duplicates."""

    name: str
    kept: dict[str, int]
    rejected: dict[str, int]
    duplicates: int

    @property
    def listed(self) -> int:
        """All images of the class that the source lists."""
        return sum(self.kept.values()) + sum(self.rejected.values()) + self.duplicates


def class_rows(table: pa.Table, classes: list[str]) -> list[ClassRow]:
    """The numbers of each class from a dataset's index."""
    state = pc.if_else(
        pc.is_null(table["reason"]),
        pc.take(pa.array([*SPLITS]), pc.max_element_wise(table["split"], 0)),
        table["reason"],
    )
    counted = (
        pa.table({"label": table["label"], "state": state}).group_by(["label", "state"]).aggregate([([], "count_all")])
    )
    rows = {name: ClassRow(name, dict.fromkeys(SPLITS, 0), {}, 0) for name in classes}
    found: dict[str, dict[str, int]] = {name: {} for name in classes}
    for label, status, count in zip(
        *(counted[name].to_pylist() for name in ("label", "state", "count_all")), strict=True
    ):
        found[label][status] = count
    for name, states in found.items():
        rows[name] = ClassRow(
            name,
            {split: states.pop(split, 0) for split in SPLITS},
            {reason: count for reason, count in sorted(states.items()) if reason != rejects.DUPLICATE},
            states.get(rejects.DUPLICATE, 0),
        )
    return [rows[name] for name in classes]


def rows_of(dataset: Dataset) -> list[ClassRow]:
    """The numbers of each class of a prepared dataset."""
    return class_rows(index.of_dataset(dataset.path), dataset.manifest.classes)


def total(rows: list[ClassRow]) -> ClassRow:
    """All classes together."""
    reasons = sorted({reason for row in rows for reason in row.rejected})
    return ClassRow(
        "all",
        {split: sum(row.kept[split] for row in rows) for split in SPLITS},
        {reason: sum(row.rejected.get(reason, 0) for row in rows) for reason in reasons},
        sum(row.duplicates for row in rows),
    )


def table(dataset: Dataset) -> "Table":
    """The numbers as a rich table: a row per class (the largest, if there are many), and their sum."""
    # The driver of a job that prints nothing needs no rich.
    from rich.table import Table
    from rich.text import Text

    rows = rows_of(dataset)
    whole = total(rows)
    shown = rows
    if len(rows) > _MOST_CLASSES:
        shown = sorted(rows, key=lambda row: -row.listed)[:_MOST_CLASSES]
    made = Table(title=f"{dataset.manifest.name}: {sum(whole.kept.values()):,} of {whole.listed:,} images kept")
    made.add_column("class", overflow="fold")
    # A column is shown when it has a number: ten rows of nothing say nothing.
    headings = [
        *SPLITS,
        *(reason.replace("_", " ") for reason in whole.rejected),
        *["duplicates"] * bool(whole.duplicates),
    ]
    for heading in headings:
        made.add_column(heading, justify="right")
    for row in shown:
        made.add_row(Text(printable(row.name)), *_cells(row, whole))
    if len(shown) < len(rows):
        made.add_row(f"… {len(rows) - len(shown)} more classes", *[""] * len(headings))
    made.add_section()
    made.add_row("all", *_cells(whole, whole), style="bold")
    return made


def _cells(row: ClassRow, whole: ClassRow) -> list[str]:
    rejected = [row.rejected.get(reason, 0) for reason in whole.rejected]
    numbers = [*row.kept.values(), *rejected, *[row.duplicates] * bool(whole.duplicates)]
    return [f"{number:,}" if number else "·" for number in numbers]
