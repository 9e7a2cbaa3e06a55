"""The trials of a sweep while it goes on: one table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from distributed_cls.contracts.status import Status
from distributed_cls.contracts.trials_table import TrialRow
from distributed_cls.evaluation import trials
from distributed_cls.evaluation.labels import duration, percent, plural

if TYPE_CHECKING:
    from rich.table import Table

_MOST_SETTINGS = 4
_BEST, _LATEST = 3, 3  # trials that are shown besides those that run


class Standing(NamedTuple):
    """How a trial that runs stands, in words."""

    epoch: str
    val: str
    images: str
    left: str


def standing(status: Status) -> Standing:
    """Epoch or else the stage, latest val accuracy, images/s and time left; a dash for what is not known yet."""
    epoch = f"{status.epoch}/{status.epochs}" if status.epoch is not None and status.stage == "train" else status.stage
    speed = status.train.images_per_second if status.train else None
    return Standing(
        epoch or "-",
        percent(status.val.accuracy) if status.val else "-",
        f"{speed:,.0f}" if speed else "-",
        "-" if status.seconds_left is None else duration(status.seconds_left),
    )


def shown(rows: Sequence[TrialRow], running: Mapping[int, Status]) -> list[TrialRow]:
    """The best trials and those that ended last, in the order in which they began, then those that run."""
    over = [row for row in rows if row.trial not in running]
    best = [row for row in trials.ranked(over) if row.done][:_BEST]
    latest = [row for row in over if row.seconds is not None][-_LATEST:]
    kept = {row.trial for row in [*best, *latest]}
    return [*(row for row in over if row.trial in kept), *(row for row in rows if row.trial in running)]


def live_table(rows: Sequence[TrialRow], running: Mapping[int, Status]) -> "Table":
    """For a terminal of 80 columns or more, and of a bounded height however many trials there are."""
    from rich.table import Table
    from rich.text import Text

    # The settings of a first trial are in the line above; beside many the numbers would have no room.
    keys, chosen = trials.varied(rows)[:_MOST_SETTINGS] if len(rows) > 1 else [], trials.best(rows)
    ended = sum(row.trial not in running for row in rows)
    title = f"{plural(len(rows), 'trial')}, {ended:,} over, {len(running):,} running"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    for heading in trials.headings(keys):
        table.add_column(Text(heading), overflow="ellipsis", no_wrap=True)
    for heading in ("epoch", "validation", "images/s", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in shown(rows, running):
        settings = (Text(trials.override(row, key)) for key in keys)
        if row.trial in running:
            at = standing(running[row.trial])
            left = "-" if at.left == "-" else f"{at.left} left"
            table.add_row(str(row.trial), *settings, at.epoch, at.val, at.images, left, _repeats(row), style="bold")
            continue
        val, _, seconds = trials.measures(row)
        state = "best" if row is chosen else (row.done and _repeats(row)) or row.status.value
        epochs = str(len(row.curve)) if row.curve else "-"
        look = "" if row is chosen else "red" if row.failed else "dim"
        table.add_row(str(row.trial), *settings, epochs, val, "-", seconds, state, style=look)
    return table


def _repeats(row: TrialRow) -> str:
    return "" if row.refit_of is None else f"trial {row.refit_of} again"
