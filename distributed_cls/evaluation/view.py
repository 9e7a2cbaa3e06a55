"""The numbers of a report as plain words and rows for the template, which escapes them: nothing here is HTML."""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.counts import Counts, Floats, Integers
from distributed_cls.contracts.evaluation_result import EvaluatedSplit
from distributed_cls.contracts.events import Mistake
from distributed_cls.contracts.summary import DatasetEntry, FailedAttempt, Summary
from distributed_cls.evaluation import metrics
from distributed_cls.evaluation.figures import MOST_NAMED_CLASSES, SHORTEST_LABEL, heat_opacity
from distributed_cls.evaluation.labels import duration, interval, number, percent, plural, readable, short_names
from distributed_cls.evaluation.metrics import Calibration, ClassScores

# A larger confusion table cannot be taken in; the page then shows the whole as a figure, and a table of this part.
MOST_TABLED_CLASSES = 20
_FOCUS_CLASSES = 10
_MOST_PICTURES = 24
_STAGE_COLOURS = 11  # of report.css; its grey is for what no stage accounts for
_UNACCOUNTED = "between stages"
_PIXEL_ART_EDGE = 64
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
STAGE_WORDS = {
    "launch": "command start-up",
    "spark": "Spark",
    "rendezvous": "worker rendezvous",
    "tensorflow": "TensorFlow start-up",
    "measure": "measuring the pace",
    "features": "frozen backbone",
    "tracing": "graph tracing",
    "finish": "shutdown of workers",
}


def class_names(dataset: DatasetEntry | None, classes: int) -> list[str]:
    """Showable names of all classes; numbers where the data set has no names."""
    if dataset is not None and len(dataset.classes) == classes:
        return [readable(name) for name in dataset.classes]
    return [str(index) for index in range(classes)]


def headline(split: str, counts: Counts, scores: ClassScores, names: Sequence[str]) -> dict[str, object]:
    """The first thing to know: the accuracy, its confidence interval, and the majority-class baseline."""
    low, high = metrics.wilson_interval(counts.correct, counts.examples)
    return {
        "split": SPLIT_WORDS.get(split, split),
        "accuracy": percent(counts.accuracy, counts.examples),
        "correct": f"{counts.correct:,}",
        "perfect": counts.correct == counts.examples,
        "examples": plural(counts.examples, "image"),
        "interval": interval((low, high), counts.examples),
        "bootstrap": interval(metrics.bootstrap_interval(counts.correct, counts.examples), counts.examples),
        "low": low,
        "high": high,
        "point": counts.accuracy,
        "baseline": percent(metrics.majority_share(scores)),
        "most_frequent": names[int(scores.support.argmax())],
    }


def score_cards(split: EvaluatedSplit, other: EvaluatedSplit | None) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of the scores beside the headline; ``other`` is the val split, when there is one."""
    counts = split.counts
    entry = metrics.split_entry(counts, split.probabilities)
    cards = [("Log loss", number(entry.loss), "mean cross-entropy per image, nats")]
    if counts.classes > entry.top_k:
        meaning = f"the true class is among the {entry.top_k} most probable"
        cards.append((f"Top-{entry.top_k} accuracy", percent(entry.top_k_accuracy), meaning))
    cards.append(("Balanced accuracy", percent(entry.balanced_accuracy), "mean recall: every class counts the same"))
    cards.append(("Macro F1", percent(entry.macro_f1), "F1 averaged over classes"))
    if entry.roc_auc is not None:
        cards.append(("ROC AUC", percent(entry.roc_auc, counts.examples), "one class against the rest, mean of all"))
    if other is not None:
        val = metrics.split_entry(other.counts)
        hint = f"95% CI {interval(val.accuracy_interval)}; it chose the kept epoch"
        cards.append(("Validation accuracy", percent(val.accuracy, val.examples), hint))
    return cards


def run_facts(summary: Summary, total: float | None) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of how the model came about."""
    train = summary.train
    facts = [("Workers", number(summary.workers), "")] if summary.workers else []
    facts += [("Wall time", duration(total), "from the command to this report")] if total else []
    if train:
        facts.append(("Epochs", number(train.epochs), plural(train.steps, "step")))
        facts.append(("Kept epoch", number(train.best_epoch), "best validation accuracy"))
        meaning = "images/s in training steps, without validation and checkpoints"
        facts.append(("Throughput", f"{train.images_per_second:,.0f}", meaning))
    facts += [("Attempts", number(summary.attempts), "")] if summary.attempts and summary.attempts > 1 else []
    return facts


def failed_attempts(summary: Summary) -> list[str]:
    """One sentence for each attempt that ended without a result."""
    return [
        f"Attempt {attempt.number}{_with_workers(attempt, summary)} ended after {duration(attempt.seconds)} "
        f"({attempt.cause}): {readable(attempt.message)}"
        for attempt in summary.failed_attempts
    ]


def slow_ranks(summary: Summary) -> list[str]:
    """One sentence for each rank that was steadily slower than the others."""
    return [
        f"Rank {slow.rank} on {readable(slow.host)} was {slow.factor:.1f} times as slow as the others"
        for slow in summary.slow_ranks
    ]


def _with_workers(attempt: FailedAttempt, summary: Summary) -> str:
    """With how many workers an attempt was made, where not all attempts had as many."""
    numbers = {summary.workers, *(other.workers for other in summary.failed_attempts)}
    if attempt.workers is None or len(numbers) == 1:
        return ""
    return f" with {number(attempt.workers)} of {plural(max(each or 0 for each in numbers), 'worker')}"


def stages(seconds: Mapping[str, float]) -> tuple[list[dict[str, object]], float]:
    """Where the time went, in the order it went, and the total. What no stage accounts for is a stage of its own."""
    parts = {_stage_name(name): float(value) for name, value in seconds.items() if name != "total" and value > 0}
    known = sum(parts.values())
    total = max(float(seconds.get("total") or 0), known)
    if total - known > 0.01 * total:
        parts[_UNACCOUNTED] = total - known
    return [
        {
            "name": name,
            "time": duration(value),
            "share": value / total,
            "percent": percent(value / total),
            "colour": 0 if name == _UNACCOUNTED else position % _STAGE_COLOURS + 1,
        }
        for position, (name, value) in enumerate(parts.items())
    ], total


def _stage_name(name: str) -> str:
    return STAGE_WORDS.get(name, readable(name).replace("_", " "))


def confusion_table(matrix: Integers, names: Sequence[str]) -> dict[str, object]:
    """Header and rows of a confusion table: of all classes when they are few, else of the most confused ones."""
    classes = len(matrix)
    chosen = list(range(classes))
    if classes > MOST_TABLED_CLASSES:
        pairs = metrics.confused_pairs(matrix, limit=classes * classes)
        involved = dict.fromkeys(index for pair in pairs for index in (pair.true, pair.predicted))
        chosen = list(involved)[:_FOCUS_CLASSES]
    opacity = heat_opacity(matrix)
    labels = short_names(names, 20)
    numbered = labels != list(names)
    rows = []
    for row in chosen:
        cells = [
            {
                "count": int(matrix[row, column]),
                "heat": round(float(opacity[row, column]), 3),
                "right": row == column,
                "predicted": names[column],
            }
            for column in chosen
        ]
        others = int(matrix[row].sum() - matrix[row, chosen].sum())
        rows.append({"name": names[row], "number": row if numbered else None, "cells": cells, "others": others})
    columns = [(labels[index], names[index]) for index in chosen]
    return {"columns": columns, "rows": rows, "partial": len(chosen) < classes}


def pair_rows(matrix: Integers, names: Sequence[str]) -> list[dict[str, str]]:
    """The most confused pairs, ready for a sentence each."""
    return [
        {
            "true": names[pair.true],
            "predicted": names[pair.predicted],
            "images": plural(pair.count, "image"),
            "share": percent(pair.share),
        }
        for pair in metrics.confused_pairs(matrix, limit=8)
    ]


def are_numbered(names: Sequence[str]) -> bool:
    """Whether a figure or table of the page shows classes by their number, which a table then has to explain."""
    return len(names) > MOST_NAMED_CLASSES or short_names(names, SHORTEST_LABEL) != list(names)


def class_rows(scores: ClassScores, names: Sequence[str], areas: Floats | None) -> list[dict[str, object]]:
    """One row per class, in class order, with its scores; ``areas`` under the ROC curves, NaN where there is none."""
    return [
        {
            "index": index,
            "name": name,
            "support": int(scores.support[index]),
            "precision": float(scores.precision[index]),
            "recall": float(scores.recall[index]),
            "f1": float(scores.f1[index]),
            "auc": float(areas[index]) if areas is not None and np.isfinite(areas[index]) else None,
        }
        for index, name in enumerate(names)
    ]


def confidence_words(split: EvaluatedSplit, confidence: Confidence | None) -> list[str]:
    """What temperature scaling and the reject option came to, in sentences."""
    counted, sentences = split.probabilities, []
    if confidence is None or counted is None:
        return []
    if confidence.temperature != 1:
        before = metrics.calibration(counted.unscaled_bins)
        sentences.append(
            f"Temperature scaling with T = {number(confidence.temperature)}, fitted on the validation split, changed "
            f"the calibration error from {percent(before.error)} to "
            f"{percent(metrics.calibration(split.counts.bins).error)}. No predicted class changes by it."
        )
    if confidence.threshold is not None and confidence.coverage is not None:
        entry = metrics.split_entry(split.counts, counted)
        assert entry.coverage is not None and entry.accepted_accuracy is not None
        sentences.append(
            f"{_threshold_words(confidence)} the answer is “none of these”: the threshold lets "
            f"{percent(confidence.coverage)} of the validation images have an answer. Here {percent(entry.coverage)} "
            f"have one, and {percent(entry.accepted_accuracy)} of these are correct."
        )
    return sentences


def _threshold_words(confidence: Confidence) -> str:
    """Below what the answer is "none of these": "Below 41.00% confidence". Only where there is a threshold."""
    assert confidence.threshold is not None
    if confidence.reject_by is RejectBy.ENERGY:
        return f"Below an energy score of {number(confidence.threshold)}"
    return f"Below {percent(confidence.threshold)} confidence"


def calibration_words(found: Calibration, accuracy: float) -> list[str]:
    """What the calibration means, in sentences."""
    images = int(found.count.sum())
    if images == 0:
        return ["No confidence was recorded."]
    degree = next(
        word for limit, word in ((0.02, "slightly "), (0.05, ""), (2, "strongly ")) if abs(found.bias) < limit
    )
    tendency = f"{degree}overconfident" if found.bias > 0 else f"{degree}underconfident"
    if abs(found.bias) < 0.005:
        tendency = "neither overconfident nor underconfident over all images"
    confidence = percent(accuracy + found.bias)
    sentences = [
        f"Mean confidence is {confidence} and accuracy {percent(accuracy)}: the model is {tendency}.",
        f"The expected calibration error is {percent(found.error)}: the average difference between confidence and "
        f"accuracy over {len(found.count)} confidence bins.",
    ]
    if images < 1000:
        sentences.append(f"{plural(images, 'image')} make it uncertain: use 1,000 or more for a reliable estimate.")
    return sentences


def gallery(mistakes: Sequence[Mistake], names: Sequence[str]) -> list[dict[str, object]]:
    """Single mistakes, most confident first. One whose image is no PNG is listed without its picture."""

    def name_of(index: int) -> str:
        return names[index] if 0 <= index < len(names) else f"class {index}"

    return [
        {
            **picture(item.image),
            "true": name_of(item.true),
            "predicted": name_of(item.predicted),
            "confidence": percent(item.confidence),
            "path": readable(item.path),
            "file": "/".join(readable(item.path).rsplit("/", 2)[-2:]),
        }
        for item in sorted(mistakes, key=lambda item: -item.confidence)[:_MOST_PICTURES]
    ]


def picture(encoded: str) -> dict[str, object]:
    """A data URL of a base64 PNG, and whether its pixels should stay visible when it is enlarged."""
    try:
        png = base64.b64decode(encoded, validate=True)
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError("no PNG signature")
        width, height = struct.unpack(">II", png[16:24])
    except (ValueError, binascii.Error, struct.error):
        return {"source": None, "pixels": False}
    return {"source": f"data:image/png;base64,{encoded}", "pixels": max(width, height) <= _PIXEL_ART_EDGE}
