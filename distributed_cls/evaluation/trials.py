"""The trials of a sweep, best first: a table for the terminal, and files to keep."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from distributed_cls.contracts import trials_table
from distributed_cls.contracts.trials_table import TrialRow, TrialsTable, TrialStatus
from distributed_cls.evaluation.labels import duration, percent, plural, readable
from distributed_cls.storage import write_text

if TYPE_CHECKING:
    from rich.table import Table


_NOT_DONE = (TrialStatus.STOPPED, TrialStatus.UNFINISHED)


def ranked(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Best val accuracy first (test accuracy must not choose), then those without one; trials that are not done come
    after all that are, failed ones last."""
    order = list(TrialStatus)

    def rank(row: TrialRow) -> tuple[int, bool, float, int]:
        val = row.val_accuracy
        return order.index(row.status), val is None, -(val or 0.0), row.trial

    return sorted(rows, key=rank)


def best(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The trial to choose; None when no trial that is done has a val accuracy."""
    found = [row for row in ranked(rows) if row.done and row.val_accuracy is not None]
    return found[0] if found else None


def varied(rows: Sequence[TrialRow]) -> list[str]:
    """Keys of the overrides that are not the same in all trials, in the order they first occur; of one trial all."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    if len(rows) == 1:
        return keys
    return [key for key in keys if len({row.overrides.get(key) for row in rows}) > 1]


def headings(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys, where these still tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def render(rows: Sequence[TrialRow]) -> "Table":
    """A table for a terminal of 80 columns or more; a trial that is not done has its reason."""
    from rich.table import Table
    from rich.text import Text

    keys, chosen = varied(rows), best(rows)
    any_reason = any(not row.done for row in rows)
    title = f"{plural(len(rows), 'trial')}, best validation accuracy first"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    for heading in headings(keys):
        table.add_column(Text(heading), overflow="fold")
    for heading in ("validation", "test", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1 if any_reason else None)
    for row in ranked(rows):
        remark = Text(_reason(row), style="red" if row.failed else "")
        table.add_row(
            str(row.trial),
            *(Text(_override(row, key)) for key in keys),
            *_measures(row),
            Text("best") if row is chosen else remark,
            style="bold" if row is chosen else None if row.done else "dim",
        )
    return table


def save(rows: Sequence[TrialRow], folder: str | Path) -> Path:
    """Write ``trials.json``, ``trials.csv`` and ``trials.html`` into ``folder``, best first; return the page's path."""
    target = Path(folder)
    chosen = best(rows)
    ordered = ranked(rows)
    trials_table.write(target, TrialsTable(chosen.trial if chosen else None, ordered))
    write_text(target / "trials.csv", _as_csv(ordered))
    write_text(target / "trials.html", _page(ordered, chosen.trial if chosen else None, target))
    return target / "trials.html"


def _override(row: TrialRow, key: str) -> str:
    return _rounded(readable(row.overrides.get(key, "")))


def _rounded(value: str) -> str:
    """A number that a sampler drew, to 4 significant digits; the files keep all of them."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _reason(row: TrialRow) -> str:
    """Why a trial is not done; empty for one that is."""
    if row.done:
        return ""
    reason = row.reason or ("no reason is known" if row.failed else "")
    return f"{row.status.value}: {readable(reason).strip()}" if reason else row.status.value


def _measures(row: TrialRow) -> tuple[str, str, str]:
    """Val and test accuracy, as the trial's report shows them, and the time; a dash for what is not known."""
    val, test, seconds = (row.val_accuracy, row.test_accuracy, row.seconds)
    return (
        "-" if val is None else percent(val, row.val_images),
        "-" if test is None else percent(test, row.test_images),
        "-" if seconds is None else duration(seconds),
    )


def _as_csv(rows: Sequence[TrialRow]) -> str:
    """All trials with every override as a column of its own."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    measured = ["val_accuracy", "test_accuracy", "val_images", "test_images", "seconds", "reason", "run"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["trial", "status", *keys, *measured])
    for row in rows:
        overrides = [row.overrides.get(key) for key in keys]
        writer.writerow([row.trial, row.status.value, *overrides, *(getattr(row, key) for key in measured)])
    return stream.getvalue()


def _page(rows: Sequence[TrialRow], chosen: int | None, folder: Path) -> str:
    from markupsafe import Markup

    from distributed_cls.evaluation.figures import trial_dots
    from distributed_cls.evaluation.report import render as fill

    keys = varied(rows)
    finished = [row for row in rows if not row.failed]
    number_of = {status: sum(row.status is status for row in rows) for status in TrialStatus}
    dots = [
        (
            " ".join([f"#{row.trial}", *(_override(row, key) for key in keys)]),
            row.val_accuracy,
            row.test_accuracy,
        )
        for row in finished
    ]
    return fill(
        "trials.html",
        headings=[(heading, key) for heading, key in zip(headings(keys), keys, strict=True)],
        trials=[
            {
                "number": row.trial,
                "overrides": [_override(row, key) for key in keys],
                "measures": _measures(row),
                "values": [row.val_accuracy, row.test_accuracy, row.seconds],
                "failed": row.failed,
                "reason": _reason(row),
                "best": row.trial == chosen,
                "link": _link(row, folder),
            }
            for row in rows
        ],
        figure=Markup(trial_dots(dots)) if any(val is not None for _, val, _ in dots) else None,
        failed=number_of[TrialStatus.FAILED],
        others=[f"{number_of[status]} {status.value}" for status in _NOT_DONE if number_of[status]],
        reasons=number_of[TrialStatus.DONE] < len(rows),
    )


def _link(row: TrialRow, folder: Path) -> str | None:
    """Relative address of a trial's report, when it has one, so that the folder can be moved as a whole."""
    report = Path(row.run) / "report.html"
    if not row.run or not report.exists():
        return None
    # "./" keeps a folder named like "data:x" from being read as a scheme.
    return "./" + quote(Path(os.path.relpath(report.resolve(), folder.resolve())).as_posix())
