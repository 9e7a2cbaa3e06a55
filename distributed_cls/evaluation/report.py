"""``report.html``: one page that tells how a run went, from the files in its run folder."""

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.contracts import evaluation_result
from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.evaluation_result import EvaluatedSplit
from distributed_cls.contracts.summary import Summary
from distributed_cls.evaluation import data_view, figures, metrics, view
from distributed_cls.evaluation.history import History, read_history
from distributed_cls.evaluation.labels import duration, percent, plural, readable
from distributed_cls.storage import write_text

if TYPE_CHECKING:
    from markupsafe import Markup

FILE = "report.html"
_EVENTS = "metrics.jsonl"
_HERE = Path(__file__).parent
_REMEDY = "Evaluate the model first: python -m launch job=evaluate model_dir=<run folder>."
_SECTIONS = [
    ("time", "Time"),
    ("training", "Training"),
    ("confusion", "Confusion matrix"),
    ("classes", "Per-class metrics"),
    ("confidence", "Calibration"),
    ("mistakes", "Mistakes"),
    ("data", "Data"),
    ("again", "Reproduce"),
]


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Reads ``summary.json``, ``evaluation.json`` and, when it is there, ``metrics.jsonl``. Raises ``UserError`` when one
    of the first two is missing or damaged.
    """
    report = Report(Path(run_dir), summaries.read(Path(run_dir), _REMEDY))
    report.draw()
    return report.write()


class Report:
    """The report of a run in two parts: ``draw`` takes seconds, ``write`` takes none and shows the times until then."""

    def __init__(self, run: Path, summary: Summary) -> None:
        """Read ``evaluation.json`` and ``metrics.jsonl`` of the folder ``run``. Raises UserError as write_report."""
        self._run, self._summary = run, summary
        self._splits = evaluation_result.read(run, _REMEDY)
        self._split = "test" if "test" in self._splits else next(iter(self._splits))
        self._history = read_history(run / _EVENTS)
        self._names = view.class_names(summary.dataset, self._splits[self._split].counts.classes)
        self._figures: dict[str, object] = {}

    def draw(self) -> None:
        """Draw all figures of the page."""
        self._figures = _figures(self._splits[self._split], self._names, self._history, self._summary)

    def write(self) -> Path:
        """Write ``report.html`` with the summary as it is now; its path."""
        path = self._run / FILE
        write_text(
            path, _page(self._summary, self._splits, self._split, self._names, self._history.last_time(), self._figures)
        )
        return path


def render(template: str, **values: object) -> str:
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


def _page(
    summary: Summary,
    splits: dict[str, EvaluatedSplit],
    split: str,
    names: list[str],
    ended: float | None,
    drawn: dict[str, object],
) -> str:
    counts = splits[split].counts
    scores = metrics.class_scores(counts.confusion)
    probabilities = splits[split].probabilities
    areas = metrics.roc_auc(probabilities.ordered_pairs, scores.support) if probabilities else None
    headline = view.headline(split, counts, scores, names)
    stages, total = view.stages(summary.seconds)
    model = readable(summary.model or "model")
    dataset_name = readable(summary.dataset.name if summary.dataset else "images")
    val = splits.get("val") if split != "val" else None
    return render(
        "report.html",
        title=f"{model} on {dataset_name}: {headline['accuracy']}",
        model=model,
        dataset_name=dataset_name,
        fingerprint=readable(summary.dataset.fingerprint if summary.dataset else ""),
        subtitle=_subtitle(summary, len(names), ended),
        sections=[(anchor, text) for anchor, text in _SECTIONS if anchor != "time" or stages],
        headline=headline,
        cards=view.score_cards(splits[split], val),
        facts=view.run_facts(summary, total),
        disturbances=[*view.failed_attempts(summary), *view.slow_ranks(summary)],
        stages=stages,
        total=duration(total),
        classes=view.class_rows(scores, names, areas),
        macro_auc=None if areas is None else metrics.mean_area(areas),
        numbered=view.are_numbered(names),
        averages=[
            ("macro average", metrics.macro_average(scores)),
            ("weighted average", metrics.weighted_average(scores)),
        ],
        pairs=view.pair_rows(counts.confusion, names),
        confusion=view.confusion_table(counts.confusion, names),
        calibration=view.calibration_words(metrics.calibration(counts.bins), counts.accuracy)
        + view.confidence_words(splits[split], summary.confidence),
        mistakes=view.gallery(splits[split].mistakes, names),
        data=data_view.dataset_facts(summary.dataset, names),
        command=summary.command,
        settings=data_view.settings(summary.config, summary.job),
        written=_written(summary),
        **drawn,
    )


def _figures(split: EvaluatedSplit, names: list[str], history: History, summary: Summary) -> dict[str, object]:
    """All figures of the page, as ``Markup``."""
    from markupsafe import Markup

    counts, trained, before = split.counts, summary.train, None
    if split.probabilities is not None and summary.confidence is not None and summary.confidence.temperature != 1:
        before = metrics.calibration(split.probabilities.unscaled_bins)
    kept, mean_rate = (trained.best_epoch, trained.images_per_second) if trained else (None, None)
    first_phase = trained.first_phase_epochs if trained else None

    def drawn(svg: str | None) -> "Markup | None":
        return Markup(svg) if svg else None

    curves = [
        ("Loss", drawn(figures.learning_curve(history, "loss", kept, first_phase))),
        ("Accuracy", drawn(figures.learning_curve(history, "accuracy", kept, first_phase))),
        ("Learning rate", drawn(figures.learning_rate_curve(history))),
        ("Throughput, images per second", drawn(figures.throughput_curve(history, mean_rate))),
    ]
    many = len(names) > view.MOST_TABLED_CLASSES
    return {
        "curves": [(caption, curve) for caption, curve in curves if curve],
        "confusion_figure": drawn(figures.confusion_matrix(counts.confusion, names)) if many else None,
        "f1_figure": drawn(figures.f1_bars(metrics.class_scores(counts.confusion), names)),
        "reliability_figure": drawn(figures.reliability_diagram(metrics.calibration(counts.bins), before)),
    }


def _subtitle(summary: Summary, classes: int, ended: float | None) -> str:
    """What was done, and when it ended, in seconds since 1970."""
    words = [plural(classes, "class", "classes")]
    done = "trained" if summary.train else "evaluated"
    words += [f"{done} by {plural(summary.workers, 'worker')}"] if summary.workers else []
    if ended:
        words.append(datetime.fromtimestamp(ended, timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(words)


def _written(summary: Summary) -> str:
    """The versions that made the run."""
    return " · ".join(f"{readable(name)} {readable(version)}" for name, version in summary.versions.items())
