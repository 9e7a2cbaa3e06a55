"""The trials of a sweep, best first: their order, the words for them, and a table for the terminal."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.evaluation.labels import duration, percent, plural, readable

if TYPE_CHECKING:
    from rich.table import Table

SEED = "train.seed"
_ACCURACIES = ("val_accuracy", "test_accuracy")


def ranked(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Best val accuracy first (test accuracy must not choose), then those without one, then those that repeat the best
    one; trials that are not done come after all that are, failed ones last."""
    order = list(TrialStatus)

    def rank(row: TrialRow) -> tuple[int, bool, bool, float, int]:
        val = row.val_accuracy
        return order.index(row.status), row.refit_of is not None, val is None, -(val or 0.0), row.trial

    return sorted(rows, key=rank)


def best(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The trial to choose; None when no trial that is done has a val accuracy. Its repetitions only measure it."""
    found = [row for row in ranked(rows) if row.done and row.val_accuracy is not None and row.refit_of is None]
    return found[0] if found else None


def varied(rows: Sequence[TrialRow]) -> list[str]:
    """Keys of the overrides that are not the same in all trials, in the order they first occur; of one trial all."""
    searched = [row for row in rows if row.refit_of is None]
    keys = list(dict.fromkeys(key for row in searched for key in row.overrides))
    if len(searched) == 1:
        return keys
    return [key for key in keys if len({row.overrides.get(key) for row in searched}) > 1]


def headings(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys, where these still tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def render(rows: Sequence[TrialRow]) -> "Table":
    """A table for a terminal of 80 columns or more; a trial that is not done has its reason."""
    from rich.table import Table
    from rich.text import Text

    keys, chosen = varied(rows), best(rows)
    any_remark = any(remark(row) for row in rows)
    title = f"{plural(len(rows), 'trial')}, best validation accuracy first"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    for heading in headings(keys):
        table.add_column(Text(heading), overflow="fold")
    for heading in ("validation", "test", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1 if any_remark else None)
    for row in ranked(rows):
        table.add_row(
            str(row.trial),
            *(Text(override(row, key)) for key in keys),
            *measures(row),
            Text("best") if row is chosen else Text(remark(row), style="red" if row.failed else ""),
            style="bold" if row is chosen else None if row.done else "dim",
        )
    return table


def as_given(settings: Mapping[str, str]) -> list[str]:
    """The settings of a trial as on its command line. ``~key`` takes something away and has no value."""
    return [key if key.startswith("~") and not value else f"{key}={value}" for key, value in settings.items()]


def override(row: TrialRow, key: str) -> str:
    return _rounded(readable(row.overrides.get(key, "")))


def _rounded(value: str) -> str:
    """A number that a sampler drew, to 4 significant digits; the files keep all of them."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def remark(row: TrialRow) -> str:
    """Why a trial is not done, and which one it repeats; empty for any other. Of a reason its first line: the others,
    which the files keep, are the last ones of a rank's log."""
    said = [f"trial {row.refit_of} again, train.seed={override(row, SEED)}"] if row.refit_of is not None else []
    if not row.done:
        why = (row.reason or ("no reason is known" if row.failed else "")).strip().partition("\n")[0]
        said.append(f"{row.status.value}: {readable(why)}" if why else row.status.value)
    return "; ".join(said)


def measures(row: TrialRow) -> tuple[str, str, str]:
    """Val and test accuracy, as the trial's report shows them, and the time; a dash for what is not known."""
    val, test, seconds = (row.val_accuracy, row.test_accuracy, row.seconds)
    return (
        "-" if val is None else percent(val, row.val_images),
        "-" if test is None else percent(test, row.test_images),
        "-" if seconds is None else duration(seconds),
    )


@dataclass(frozen=True)
class Refit:
    """The best trial again with other seeds: accuracies in [0, 1] of the repetitions that are done."""

    trial: int
    val: list[float]
    test: list[float]


def refitted(rows: Sequence[TrialRow]) -> Refit | None:
    """What the repetitions of the best trial came to; None when none is done. The trial itself does not count: it was
    chosen for its accuracy, which is therefore too high an estimate."""
    chosen = best(rows)
    again = [row for row in rows if chosen is not None and row.refit_of == chosen.trial and row.done]
    val, test = ([found for row in again if (found := getattr(row, name)) is not None] for name in _ACCURACIES)
    return Refit(chosen.trial, val, test) if chosen is not None and val else None


def refit_words(refit: Refit) -> str:
    """Mean ± standard deviation (n - 1) over the seeds, in points of percent."""
    parts = [f"{split} {_spread(found)}" for split, found in (("validation", refit.val), ("test", refit.test)) if found]
    return f"Trial {refit.trial} again with {plural(len(refit.val), 'other seed')}: {', '.join(parts)}"


def _spread(shares: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(shares):.2f}%"
    return f"{mean} ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else mean
