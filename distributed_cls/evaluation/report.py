"""``report.html``: one page that tells how a run went, from the files in its run folder."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from distributed_cls.errors import UserError
from distributed_cls.evaluation import figures, metrics, view
from distributed_cls.evaluation.history import History, read_history
from distributed_cls.evaluation.labels import duration, percent, plural, readable
from distributed_cls.evaluation.metrics import Counts
from distributed_cls.evaluation.reproduce import command
from distributed_cls.storage import read_json, write_text

_HERE = Path(__file__).parent
_REMEDY = "Evaluate the model first: python -m launch job=evaluate model_dir=<run folder>."
_SECTIONS = [
    ("time", "Time"),
    ("training", "Training"),
    ("confusion", "Confusion"),
    ("classes", "Classes"),
    ("confidence", "Confidence"),
    ("mistakes", "Mistakes"),
    ("data", "Data"),
    ("again", "Do it again"),
]


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Reads ``summary.json``, ``evaluation.json`` ({"val": counts, "test": counts}, see ``metrics``) and, when it is
    there, ``metrics.jsonl``. Raises ``UserError`` when one of them is missing or damaged.
    """
    run = Path(run_dir)
    summary = read_json(run / "summary.json", "the summary of a run", _REMEDY)
    evaluation = read_json(run / "evaluation.json", "the counts of an evaluation", _REMEDY)
    splits = _checked(evaluation, run / "evaluation.json")
    page = _page(summary, splits, read_history(run / "metrics.jsonl"))
    write_text(run / "report.html", page)
    return run / "report.html"


def render(template: str, **values: Any) -> str:
    """Fill one of the templates of this folder; everything but ``Markup`` is escaped."""
    # Jinja is imported here because only the last second of a run needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return environment.get_template(template).render(style=Markup(style), script=Markup(script), **values)


def _checked(evaluation: Any, path: Path) -> dict[str, Counts]:
    """The splits that were evaluated, each checked."""
    splits = {split: counts for split, counts in evaluation.items() if counts} if isinstance(evaluation, dict) else {}
    if not splits:
        raise UserError(f"Expected {path} to hold the counts of val or test. Received: neither. {_REMEDY}")
    for split, counts in splits.items():
        confusion = counts.get("confusion") if isinstance(counts, dict) else None
        metrics.check_counts(counts, len(confusion) if isinstance(confusion, list) else 0, f"{path} ({split})")
    return splits


def _page(summary: Mapping[str, Any], splits: Mapping[str, Counts], history: History) -> str:
    split = "test" if "test" in splits else next(iter(splits))
    counts = {**splits[split], "split": split}
    dataset = summary.get("dataset") or {}
    matrix = np.asarray(counts["confusion"], np.int64)
    names = view.class_names(dataset, len(matrix))
    scores = metrics.class_scores(matrix)
    headline = view.headline(counts, scores, names)
    stages, total = view.stages(summary.get("seconds") or {})
    model, dataset_name = readable(summary.get("model", "model")), readable(dataset.get("name", "images"))
    return render(
        "report.html",
        title=f"{model} on {dataset_name}: {headline['accuracy']}",
        model=model,
        dataset_name=dataset_name,
        fingerprint=readable(dataset.get("fingerprint") or ""),
        subtitle=_subtitle(summary, len(names), history),
        sections=[(anchor, text) for anchor, text in _SECTIONS if anchor != "time" or stages],
        headline=headline,
        cards=view.score_cards(counts, scores, splits.get("val") if split != "val" else None),
        facts=view.run_facts(summary, total),
        stages=stages,
        total=duration(total),
        classes=view.class_rows(scores, names),
        averages=[
            ("mean of classes", metrics.macro_average(scores)),
            ("mean of images", metrics.weighted_average(scores)),
        ],
        pairs=view.pair_rows(matrix, names),
        confusion=view.confusion_table(matrix, names),
        calibration=view.calibration_words(metrics.calibration(counts["bins"]), counts["correct"] / counts["examples"]),
        mistakes=view.gallery(counts.get("mistakes"), names),
        hits=view.gallery(counts.get("hits"), names, surest_first=False),
        data=view.dataset_facts(dataset, names),
        command=command(summary),
        settings=view.settings(summary.get("config") or {}),
        written=_written(summary),
        **_drawn(counts, matrix, names, history),
    )


def _drawn(counts: Counts, matrix: np.ndarray, names: list[str], history: History) -> dict[str, Any]:
    """All figures of the page, as ``Markup``."""
    from markupsafe import Markup

    curves = [
        ("Loss", figures.learning_curve(history, "loss")),
        ("Accuracy", figures.learning_curve(history, "accuracy")),
        ("Learning rate", figures.learning_rate_curve(history)),
        ("Training speed, images per second", figures.throughput_curve(history)),
    ]
    many = len(names) > view.MOST_TABLED_CLASSES
    return {
        "curves": [(caption, Markup(curve)) for caption, curve in curves if curve],
        "confusion_figure": Markup(figures.confusion_matrix(matrix, names)) if many else None,
        "f1_figure": Markup(figures.f1_bars(metrics.class_scores(matrix), names)),
        "reliability_figure": Markup(figures.reliability_diagram(metrics.calibration(counts["bins"]))),
    }


def _subtitle(summary: Mapping[str, Any], classes: int, history: History) -> str:
    """What was done, and when it ended."""
    workers = summary.get("workers")
    words = [plural(classes, "class", "classes")]
    done = "trained" if summary.get("train") else "evaluated"
    words += [f"{done} by {plural(int(workers), 'worker')}"] if workers else []
    times = [event["time"] for event in [*history.epochs, *history.progress] if "time" in event]
    if times:
        words.append(datetime.fromtimestamp(max(times), timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(words)


def _written(summary: Mapping[str, Any]) -> str:
    """The versions that made the run."""
    versions = summary.get("versions") or {}
    return " · ".join(f"{readable(name)} {readable(version)}" for name, version in versions.items())
