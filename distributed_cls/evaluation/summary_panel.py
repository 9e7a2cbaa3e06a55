"""The end of a run, in the terminal: its accuracy, weak spots, where the time went, where things are."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.counts import Counts
from distributed_cls.contracts.evaluation_result import EvaluatedSplit
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.evaluation import metrics, view
from distributed_cls.evaluation.labels import duration, interval, number, percent, plural, readable, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_WORST_CLASSES = 3
_PLACES = (("report", "report.html"), ("model", "model"))
_PLAIN_VALUE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:+@%-]*")
_OTHER_VALUES = ("null", "true", "false", "inf", "nan")  # what the launcher takes for something else than a text


def summary_panel(
    summary: Summary, splits: Mapping[str, EvaluatedSplit], run_dir: str | Path | None = None
) -> "RenderableType":
    """A panel for the end of a run, at most 80 columns wide.

    ``splits`` are those of ``evaluation.json``. With ``run_dir`` it shows where the report and the model are, if they
    are there.
    """
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for split, label in (("test", "test"), ("val", "validation")):
        if split in splits:
            table.add_row(label, _accuracy(splits[split].counts))
    if not splits and summary.train and summary.train.val_accuracy is not None:
        table.add_row("validation", f"{percent(summary.train.val_accuracy)} in epoch {summary.train.best_epoch}")
    shown = splits.get("test") or splits.get("val")
    if shown:
        table.add_row("confidence", Text(_confidence(shown, summary.confidence)))
        for label, words in _weak_spots(shown.counts, summary.dataset):
            table.add_row(label, Text(words))
    _add_training(table, summary)
    _add_times(table, summary)
    for label, name in _PLACES:
        if run_dir is not None and (Path(run_dir) / name).exists():
            table.add_row(label, _place(Path(run_dir).absolute() / name))
    dataset_name = summary.dataset.name if summary.dataset else "images"
    title = Text(f"{readable(summary.model or 'model')} on {readable(dataset_name)}", style="bold")
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, expand=False, width=80, padding=(0, 1))


def next_commands(run_dir: Path, evaluated: bool) -> list[str]:
    """What one would do next with a run, as commands to copy that work as they stand, but for what is in <>."""
    here = Path.cwd()
    setting = _setting("model_dir", str(run_dir.relative_to(here) if run_dir.is_relative_to(here) else run_dir))
    commands = []
    if (run_dir / "report.html").is_file():
        commands.append(f"python -m webbrowser {shlex.quote((run_dir.absolute() / 'report.html').as_uri())}")
    if (run_dir / "model").is_dir():
        commands.append(f"python -m launch job=predict {setting} data.path=<images> output=<folder>")
        commands.append(f"python -m launch job=serve {setting}")
    return commands if evaluated else [*commands, f"python -m launch job=evaluate {setting}"]


def _setting(name: str, value: str) -> str:
    """``name=value`` for a shell; the launcher reads a text with special characters only in quotes of its own."""
    if _PLAIN_VALUE.fullmatch(value) and value.lower() not in _OTHER_VALUES:
        return f"{name}={value}"
    # Within these quotes a backslash is itself, unless a quote follows it.
    doubled = re.sub(r"\\+(?='|\Z)", lambda run: 2 * run[0], value).replace("'", r"\'")
    quoted = f"{name}='{doubled}'"
    return shlex.quote(quoted) if set(quoted) & set('"$`\\!') else f'"{quoted}"'


def _place(path: Path) -> "Text":
    """A path, from the working folder when it is in there so that it fits on the line; a link where these work."""
    from rich.text import Text

    here = Path.cwd()
    return Text(readable(path.relative_to(here) if path.is_relative_to(here) else path), style=f"link {path.as_uri()}")


def _accuracy(counts: Counts) -> "Text":
    """Accuracy, its interval and the loss on one line."""
    from rich.text import Text

    entry = metrics.split_entry(counts)
    low_high = interval(entry.accuracy_interval, entry.examples)
    images = plural(entry.examples, "image")
    return Text.assemble(
        (percent(entry.accuracy, entry.examples), "bold green"),
        f" of {images} (95% CI {low_high}), loss {number(entry.loss)}",
    )


def _confidence(split: EvaluatedSplit, confidence: Confidence | None) -> str:
    """Calibration error, ROC AUC, and how many images have an answer."""
    entry = metrics.split_entry(split.counts, split.probabilities)
    words = f"calibration error {percent(entry.calibration_error)}"
    if confidence is not None and confidence.temperature != 1 and entry.unscaled_calibration_error is not None:
        words += f" (before scaling {percent(entry.unscaled_calibration_error)})"
    words += f", ROC AUC {percent(entry.roc_auc, entry.examples)}" if entry.roc_auc is not None else ""
    if confidence is not None and confidence.threshold is not None and entry.coverage is not None:
        words += f", {percent(1 - entry.coverage)} none of these"
    return words


def _weak_spots(counts: Counts, dataset: DatasetEntry | None) -> list[tuple[str, str]]:
    """The classes with the lowest F1 below 1, and the most frequent mistake."""
    names, scores = view.class_names(dataset, counts.classes), metrics.class_scores(counts.confusion)
    occurring = np.flatnonzero(scores.support)
    order = occurring[np.argsort(scores.f1[occurring], kind="stable")][:_WORST_CLASSES]
    weak = [f"{shorten(names[index], 28)} F1 {percent(scores.f1[index])}" for index in order if scores.f1[index] < 1]
    rows = [("weakest", ", ".join(weak))] if weak else []
    for pair in metrics.confused_pairs(counts.confusion, limit=1):
        mistake = f"{shorten(names[pair.true], 28)} → {shorten(names[pair.predicted], 28)}"
        rows.append(("confused", f"{mistake} ({plural(pair.count, 'image')})"))
    return rows


def _add_training(table: "Table", summary: Summary) -> None:
    """Workers, epochs, the epoch that was kept, throughput, and attempts that failed."""
    facts = [plural(summary.workers, "worker")] if summary.workers else []
    if summary.train:
        train = summary.train
        facts += [plural(train.epochs, "epoch") + f" (kept: {train.best_epoch})", plural(train.steps, "step")]
        facts.append(f"{train.images_per_second:,.0f} images/s")
    if facts:
        table.add_row("training", ", ".join(facts))
    for disturbance in [*view.failed_attempts(summary), *view.slow_ranks(summary)]:
        table.add_row("", shorten(disturbance.splitlines()[0], 200))


def _add_times(table: "Table", summary: Summary) -> None:
    """The total, and the seconds of each stage."""
    from rich.columns import Columns
    from rich.text import Text

    stages, total = view.stages(summary.seconds)
    if stages:
        table.add_row("time", duration(total))
        table.add_row("", Columns([Text(f"{stage['name']} {stage['time']}") for stage in stages], padding=(0, 3, 0, 0)))
