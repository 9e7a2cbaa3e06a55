"""``trials.html`` and the other files of a sweep: what came of its trials, and how those that run stand."""

import csv
import dataclasses
import io
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from distributed_cls.contracts import trials_table
from distributed_cls.contracts.status import Status
from distributed_cls.contracts.trials_table import TrialRow, TrialsTable, TrialStatus
from distributed_cls.evaluation import axes, live_trials, parameter_importance, trial_figures, trials
from distributed_cls.evaluation.axes import Axis
from distributed_cls.evaluation.labels import readable
from distributed_cls.evaluation.trial_figures import Dot
from distributed_cls.storage import write_text

FILE = "trials.html"
RELOAD_SECONDS = 10  # of the page, while its sweep goes on

_MOST_SETTINGS = 12  # that have figures
_EXTRA = 'Optuna computes it: pip install -e ".[sweep]".'


def save(rows: Sequence[TrialRow], folder: str | Path) -> Path:
    """Write all files of a sweep that is over, best trial first; the page's path.

    Takes seconds where the importance of the settings is computed.
    """
    target, chosen, ordered = Path(folder), trials.best(rows), trials.ranked(rows)
    trials_table.write(target, TrialsTable(chosen.trial if chosen else None, ordered))
    write_text(target / "trials.csv", _as_csv(ordered))
    write_page(rows, target, importance=_importance(rows))
    return target / FILE


def write_page(
    rows: Sequence[TrialRow],
    folder: Path,
    running: Mapping[int, Status] | None = None,
    importance: "Importance | None" = None,
) -> None:
    """Write the page. running: how the trials that run stand, by their numbers; None when the sweep is over."""
    write_text(folder / FILE, _page(trials.ranked(rows), folder, running, importance or Importance()))


@dataclasses.dataclass(frozen=True)
class Importance:
    """The share of each setting, or a sentence why there is none."""

    shares: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    instead: str = ""


def _importance(rows: Sequence[TrialRow]) -> Importance:
    keys = trials.varied(rows)
    if len(keys) < 2:
        return Importance()
    if not parameter_importance.is_installed():
        return Importance(instead=_EXTRA)
    found = parameter_importance.importance(rows, keys)
    names = dict(zip(keys, trials.headings(keys), strict=True))
    if found:
        return Importance([(names[key], share) for key, share in found])
    fewest = parameter_importance.FEWEST_TRIALS
    return Importance(instead=f"It needs {fewest} trials that are done, two settings that vary, and a difference.")


def _as_csv(rows: Sequence[TrialRow]) -> str:
    """All trials with every override as a column of its own."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    measured = ["val_accuracy", "test_accuracy", "val_images", "test_images", "seconds", "refit_of", "reason", "run"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["trial", "status", *keys, *measured])
    for row in rows:
        overrides = [row.overrides.get(key) for key in keys]
        writer.writerow([row.trial, row.status.value, *overrides, *(getattr(row, key) for key in measured)])
    return stream.getvalue()


def _page(rows: Sequence[TrialRow], folder: Path, running: Mapping[int, Status] | None, importance: Importance) -> str:
    from distributed_cls.evaluation.report import render as fill

    keys, chosen, refit = trials.varied(rows), trials.best(rows), trials.refitted(rows)
    headings = trials.headings(keys)
    at_work = {} if running is None else running
    over = [row for row in rows if row.trial not in at_work]
    number_of = {status: sum(row.status is status for row in over) for status in TrialStatus}
    others = [status for status in (TrialStatus.STOPPED, TrialStatus.UNFINISHED) if number_of[status]]
    return fill(
        FILE,
        reload=None if running is None else RELOAD_SECONDS,
        written=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        headings=list(zip(headings, keys, strict=True)),
        trials=[_table_row(row, keys, row is chosen, folder, row.trial in at_work) for row in rows],
        chosen=None if chosen is None else _chosen(chosen),
        refit=None if refit is None else trials.refit_words(refit),
        running=[_running_row(row, keys, at_work[row.trial]) for row in rows if row.trial in at_work],
        done=number_of[TrialStatus.DONE],
        failed=number_of[TrialStatus.FAILED],
        others=[f"{number_of[status]:,} {status.value}" for status in others],
        reasons=any(trials.remark(row) for row in rows),
        importance=importance,
        **_figures([row for row in rows if row.refit_of is None], keys, headings, chosen, importance),
    )


def _table_row(row: TrialRow, keys: Sequence[str], best: bool, folder: Path, at_work: bool) -> dict[str, Any]:
    measured = [row.val_accuracy, row.test_accuracy, row.seconds]
    return {
        "number": row.trial,
        "overrides": [trials.override(row, key) for key in keys],
        "measures": list(zip(measured, trials.measures(row), strict=True)),
        "failed": row.failed,
        "remark": "running" if at_work else trials.remark(row),
        "best": best,
        "link": _link(row, folder),
    }


def _running_row(row: TrialRow, keys: Sequence[str], status: Status) -> dict[str, Any]:
    return {
        "number": row.trial,
        "overrides": [trials.override(row, key) for key in keys],
        "standing": live_trials.standing(status),
    }


def _chosen(row: TrialRow) -> dict[str, Any]:
    val, test, _ = trials.measures(row)
    return {
        "number": row.trial,
        "val": val,
        "test": None if row.test_accuracy is None else test,
        "command": readable(shlex.join(["python", "-m", "launch", *trials.as_given(row.overrides)])),
    }


def _figures(
    rows: Sequence[TrialRow],
    keys: Sequence[str],
    headings: Sequence[str],
    chosen: TrialRow | None,
    importance: Importance,
) -> dict[str, Any]:
    """All figures of the page, and what they leave out."""
    used = [row for row in rows if not row.failed]
    dots = [Dot(row.trial, row.val_accuracy, row.curve, row.done, row is chosen) for row in used]
    # Those without an accuracy have no dot, and the others begin with the best.
    dots.sort(key=lambda dot: (not dot.known, -(dot.accuracy or 0.0) if dot.known else 0.0))
    by_number = {row.trial: row for row in used}
    drawn: list[tuple[str, Axis]] = []
    left_out = []
    for key, heading in zip(keys, headings, strict=True):
        axis = axes.of_setting([by_number[dot.number].overrides.get(key) for dot in dots])
        if axis is None or len(drawn) == _MOST_SETTINGS:
            left_out.append(heading)
        else:
            drawn.append((heading, axis))
    known = sum(dot.known for dot in dots)
    curves, curves_shown, curves_of = trial_figures.curves(dots)
    return {
        "scatters": [(heading, trial_figures.scatter(dots, axis, heading)) for heading, axis in drawn]
        if known > 1
        else [],
        "left_out": ", ".join(left_out),
        "parallel": trial_figures.parallel(dots, drawn) if known > 1 and len(drawn) > 1 else None,
        "parallel_width": trial_figures.parallel_width(len(drawn)),
        "lines": _part(min(known, trial_figures.MOST_LINES), known, "trials"),
        "curves": curves,
        "curves_shown": _part(curves_shown, curves_of, "curves"),
        "bars": trial_figures.bars(importance.shares) if importance.shares else None,
    }


def _part(shown: int, of: int, what: str) -> str:
    """Empty when all are shown."""
    if shown >= of:
        return ""
    return f"{shown:,} of {of:,} {what} are shown: the best {shown // 2:,}, and the others evenly by rank."


def _link(row: TrialRow, folder: Path) -> str | None:
    """Relative address of a trial's report, when it has one, so that the folder can be moved as a whole."""
    report = Path(row.run) / "report.html"
    if not row.run or not report.exists():
        return None
    # "./" keeps a folder named like "data:x" from being read as a scheme.
    return "./" + quote(Path(os.path.relpath(report.resolve(), folder.resolve())).as_posix())
