"""What a report says, as plain words and rows for the template. Nothing here is HTML; the template escapes it all."""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distributed_cls.evaluation import metrics
from distributed_cls.evaluation.figures import heat_opacity
from distributed_cls.evaluation.labels import duration, interval, number, percent, plural, readable, short_names
from distributed_cls.evaluation.metrics import Calibration, ClassScores, Counts

# A larger confusion table cannot be taken in; the page then shows the whole as a figure, and a table of this part.
MOST_TABLED_CLASSES = 20
_FOCUS_CLASSES = 10
_MOST_PICTURES = 24
_STAGE_COLOURS = 9  # of report.css; its grey is for what no stage accounts for
_UNACCOUNTED = "between stages"
_PIXEL_ART_EDGE = 64
_SPLIT_ORDER = ("train", "val", "test")


def class_names(dataset: Mapping[str, Any], classes: int) -> list[str]:
    """Showable names of all classes; numbers where the data set has no names."""
    given = dataset.get("classes")
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == classes:
        return [readable(name) for name in given]
    return [str(index) for index in range(classes)]


def headline(counts: Counts, scores: ClassScores, names: Sequence[str]) -> dict[str, Any]:
    """The first thing to know: the accuracy, how sure it is, and what guessing would score."""
    examples, correct = int(counts["examples"]), int(counts["correct"])
    low, high = metrics.wilson_interval(correct, examples)
    return {
        "split": counts.get("split", "test"),
        "accuracy": percent(correct / examples if examples else 0.0, examples),
        "correct": f"{correct:,}",
        "perfect": correct == examples,
        "examples": plural(examples, "image"),
        "interval": interval((low, high), examples),
        "low": low,
        "high": high,
        "guess": percent(metrics.majority_share(scores)),
        "commonest": names[int(scores.support.argmax())],
    }


def score_cards(counts: Counts, scores: ClassScores, other: Counts | None) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of the scores beside the headline; ``other`` is the val split, when there is one."""
    entry = metrics.summary_entry(counts)
    classes = len(scores.support)
    cards = [("Loss", number(entry["loss"]), "mean cross-entropy per image, nats")]
    if classes > 5:
        cards.append(("Top-5 accuracy", percent(entry["top5_accuracy"]), "the right class is among the five likeliest"))
    cards.append(("Balanced accuracy", percent(entry["balanced_accuracy"]), "mean recall: every class counts the same"))
    cards.append(("Macro F1", percent(entry["macro_f1"]), "mean over classes of precision and recall in one"))
    if other is not None:
        val = metrics.summary_entry(other)
        hint = f"{interval(val['accuracy_interval'])}; chose the best epoch"
        cards.append(("Val accuracy", percent(val["accuracy"], val["examples"]), hint))
    return cards


def run_facts(summary: Mapping[str, Any], total: float | None) -> list[tuple[str, str]]:
    """(name, value) of how the model came about."""
    train = summary.get("train") or {}
    facts = [("Workers", number(summary.get("workers"))) if summary.get("workers") else None]
    facts.append(("Wall time", duration(total)) if total else None)
    facts.append(("Epochs", number(train["epochs"])) if train.get("epochs") else None)
    facts.append(("Steps", number(train["steps"])) if train.get("steps") else None)
    speed = train.get("images_per_second")
    facts.append(("Training speed", f"{speed:,.0f} images/s") if speed else None)
    attempts = summary.get("attempts")
    facts.append(("Attempts", number(attempts)) if attempts and attempts > 1 else None)
    return [fact for fact in facts if fact]


def stages(seconds: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float]:
    """Where the time went, in the order it went, and the total. What no stage accounts for is a stage of its own."""
    parts = {
        _stage_name(name): float(value)
        for name, value in seconds.items()
        if name != "total" and isinstance(value, int | float) and value > 0
    }
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
    words = readable(name).replace("_", " ").split()
    return " ".join({"spark": "Spark", "tensorflow": "TensorFlow"}.get(word, word) for word in words)


def confusion_table(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Header and rows of a table of counts: of all classes when they are few, else of the most confused ones."""
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


def pair_rows(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, str]]:
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


def class_rows(scores: ClassScores, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per class, in class order, with its scores."""
    return [
        {
            "index": index,
            "name": name,
            "support": int(scores.support[index]),
            "precision": float(scores.precision[index]),
            "recall": float(scores.recall[index]),
            "f1": float(scores.f1[index]),
        }
        for index, name in enumerate(names)
    ]


def calibration_words(found: Calibration, accuracy: float) -> list[str]:
    """What the calibration means, in sentences."""
    images = int(found.count.sum())
    if images == 0:
        return ["No confidence was recorded."]
    degree = next(word for limit, word in ((0.02, "slightly "), (0.05, ""), (2, "far ")) if abs(found.bias) < limit)
    tendency = f"{degree}too sure of itself" if found.bias > 0 else f"{degree}too modest"
    if abs(found.bias) < 0.005:
        tendency = "neither too sure nor too modest over all images"
    confidence = percent(accuracy + found.bias)
    sentences = [
        f"On average the model is {confidence} confident and {percent(accuracy)} right: {tendency}.",
        f"Expected calibration error {percent(found.error)}: confidence and accuracy differ by that much in a typical "
        "bin of like confidence.",
    ]
    if images < 1000:
        sentences.append(f"With {plural(images, 'image')} a part of this is chance; 1,000 or more tell it well.")
    return sentences


def gallery(
    pictures: Sequence[Mapping[str, Any]] | None, names: Sequence[str], surest_first: bool = True
) -> list[dict[str, Any]]:
    """Single images with what they are and what they were called, in order of confidence.

    One that is no PNG is listed without its picture.
    """
    sign = -1 if surest_first else 1

    def name_of(index: Any) -> str:
        return names[index] if isinstance(index, int) and 0 <= index < len(names) else f"class {index}"

    return [
        {
            **_picture(item.get("image")),
            "true": name_of(item["true"]),
            "predicted": name_of(item["predicted"]),
            "confidence": percent(float(item["confidence"])),
            "path": readable(item.get("path", "")),
            "file": "/".join(readable(item.get("path", "")).rsplit("/", 2)[-2:]),
        }
        for item in sorted(pictures or [], key=lambda item: sign * float(item["confidence"]))[:_MOST_PICTURES]
    ]


def _picture(encoded: Any) -> dict[str, Any]:
    """A data URL of a base64 PNG, and whether its pixels should stay visible when it is enlarged."""
    try:
        png = base64.b64decode(encoded or "", validate=True)
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError("no PNG signature")
        width, height = struct.unpack(">II", png[16:24])
    except (TypeError, ValueError, binascii.Error, struct.error):
        return {"source": None, "pixels": False}
    return {"source": f"data:image/png;base64,{encoded}", "pixels": max(width, height) <= _PIXEL_ART_EDGE}


def dataset_facts(dataset: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Images per split and class, and what was rejected."""
    counts = dataset.get("counts") or {}
    splits = [split for split in _SPLIT_ORDER if split in counts] + [key for key in counts if key not in _SPLIT_ORDER]
    per_class = {split: _per_class(counts[split], dataset.get("classes"), len(names)) for split in splits}
    totals = {split: _total(counts[split]) for split in splits}
    rows = []
    if splits and all(per_class.values()):
        rows = [(name, [(per_class[split] or [])[index] for split in splits]) for index, name in enumerate(names)]
    return {
        "splits": [readable(split) for split in splits],
        "totals": list(totals.values()),
        "total": sum(totals.values()),
        "rows": rows,
        "page": _dataset_page(dataset),
        **_rejects(dataset),
    }


def _dataset_page(dataset: Mapping[str, Any]) -> str | None:
    """The link to the page that shows the prepared images, where this machine has it."""
    page = Path(str(dataset.get("path") or ""), "dataset.html")
    return page.as_uri() if page.is_absolute() and page.is_file() else None


def _per_class(counts: Any, classes: Any, size: int) -> list[int] | None:
    """Images of each class in one split: given as a list in class order, or by name; None when only their sum is."""
    if isinstance(counts, Mapping) and isinstance(classes, Sequence):
        return [int(counts.get(name, 0)) for name in classes] if len(classes) == size else None
    if isinstance(counts, Sequence) and len(counts) == size:
        return [int(count) for count in counts]
    return None


def _total(counts: Any) -> int:
    if isinstance(counts, Mapping):
        return sum(int(count) for count in counts.values())
    return int(sum(counts)) if isinstance(counts, Sequence) else int(counts)


def _rejects(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """How many images were left out and why: ``rejected``, and of the manifest, as far as it is known, the reasons."""
    rejected = dataset.get("rejected")
    reasons = [
        f"{plural(int(count), 'image')}: {readable(reason)}"
        for reason, count in (dataset.get("rejected_by_reason") or {}).items()
    ]
    named = [
        ": ".join(readable(item[key]) for key in ("path", "reason", "detail") if item.get(key))
        for item in dataset.get("rejects") or []
    ]
    return {"rejected": None if rejected is None else int(rejected), "reasons": reasons, "rejects": named}


def settings(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The configuration by section; settings outside of any section come last, under ``run``."""
    sections = [
        (readable(section), [(readable(key), _shown(value)) for key, value in values.items()])
        for section, values in config.items()
        if isinstance(values, Mapping)
    ]
    alone = [(readable(key), _shown(value)) for key, value in config.items() if not isinstance(value, Mapping)]
    return [*sections, ("run", alone)] if alone else sections


def _shown(value: Any) -> str:
    """A value as YAML would spell it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return readable(value)
