"""The end of a run, in the terminal: what came out, where it is weak, where the time went and where things are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distributed_cls.evaluation import metrics, view
from distributed_cls.evaluation.labels import duration, interval, number, percent, plural, readable, shorten
from distributed_cls.evaluation.metrics import Counts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_WORST_CLASSES = 3
_PLACES = (("report", "report.html"), ("model", "model"))


def summary_table(
    summary: Mapping[str, Any], counts: Mapping[str, Counts | None], run_dir: str | Path | None = None
) -> "RenderableType":
    """A panel for the end of a run, at most 80 columns wide.

    ``counts`` are those of ``evaluation.json`` ({"val": counts, "test": counts}). With ``run_dir`` it tells where the
    report and the model are, if they are there.
    """
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for split in ("test", "val"):
        if counts.get(split):
            table.add_row(split, _accuracy(counts[split] or {}))
    judged = counts.get("test") or counts.get("val")
    if judged:
        for label, words in _worst(judged, summary.get("dataset") or {}):
            table.add_row(label, Text(words))
    _add_times(table, summary)
    for label, name in _PLACES:
        if run_dir is not None and (Path(run_dir) / name).exists():
            table.add_row(label, _place(Path(run_dir).absolute() / name))
    dataset_name = (summary.get("dataset") or {}).get("name", "images")
    title = Text(f"{readable(summary.get('model', 'model'))} on {readable(dataset_name)}", style="bold")
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, expand=False, width=80, padding=(0, 1))


def _place(path: Path) -> "Text":
    """A path, from the working folder when it is in there so that it fits on the line; a link where these work."""
    from rich.text import Text

    here = Path.cwd()
    return Text(readable(path.relative_to(here) if path.is_relative_to(here) else path), style=f"link {path.as_uri()}")


def _accuracy(counts: Counts) -> "Text":
    """Accuracy, its interval and the loss on one line."""
    from rich.text import Text

    entry = metrics.summary_entry(counts)
    low_high = interval(entry["accuracy_interval"], entry["examples"])
    images = plural(entry["examples"], "image")
    return Text.assemble(
        (percent(entry["accuracy"], entry["examples"]), "bold green"),
        f" of {images} (95%: {low_high}), loss {number(entry['loss'])}",
    )


def _worst(counts: Counts, dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The classes with the lowest F1 below 1, and the commonest mistake."""
    matrix = np.asarray(counts["confusion"], np.int64)
    names, scores = view.class_names(dataset, len(matrix)), metrics.class_scores(matrix)
    occurring = np.flatnonzero(scores.support)
    order = occurring[np.argsort(scores.f1[occurring], kind="stable")][:_WORST_CLASSES]
    weak = [f"{shorten(names[index], 28)} F1 {percent(scores.f1[index])}" for index in order if scores.f1[index] < 1]
    rows = [("weakest", ", ".join(weak))] if weak else []
    for pair in metrics.confused_pairs(matrix, limit=1):
        mistake = f"{shorten(names[pair.true], 28)} taken for {shorten(names[pair.predicted], 28)}"
        rows.append(("mistakes", f"most often {mistake}: {plural(pair.count, 'image')}"))
    return rows


def _add_times(table: "Table", summary: Mapping[str, Any]) -> None:
    """Workers and speed, the total, and the seconds of each stage."""
    from rich.columns import Columns
    from rich.text import Text

    train = {**(summary.get("train") or {}), "workers": summary.get("workers")}
    facts = [plural(int(train[f"{noun}s"]), noun) for noun in ("worker", "epoch", "step") if train.get(f"{noun}s")]
    facts += [f"{train['images_per_second']:,.0f} images/s"] if train.get("images_per_second") else []
    if facts:
        table.add_row("training", ", ".join(facts))
    stages, total = view.stages(summary.get("seconds") or {})
    if stages:
        table.add_row("time", duration(total))
        table.add_row("", Columns([Text(f"{stage['name']} {stage['time']}") for stage in stages], padding=(0, 3, 0, 0)))
