"""A finished run to report on: real digits, a real model, and every file that a run folder has."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from distributed_cls.config import Config
from distributed_cls.contracts import codec
from distributed_cls.contracts.counts import Counts
from distributed_cls.evaluation.metrics import split_entry

from .support import MakeRun, count, events


@pytest.fixture(scope="session")
def digits() -> dict[str, dict[str, Any]]:
    """Counts of a logistic regression on the last 270 of scikit-learn's digits (test) and the 270 before (val)."""
    data = load_digits()
    pixels, images = data.data / 16, (data.images / 16 * 255).astype(np.uint8)
    model = LogisticRegression(max_iter=100).fit(pixels[:1257], data.target[:1257])
    parts = {"val": slice(1257, 1527), "test": slice(1527, None)}
    return {
        split: count(split, model.predict_proba(pixels[part]), data.target[part], images[part])
        for split, part in parts.items()
    }


@pytest.fixture
def make_run(tmp_path: Path, digits: dict[str, dict[str, Any]]) -> MakeRun:
    """Build a run folder; keyword arguments replace parts of ``summary.json``."""

    def make(
        evaluation: dict[str, Any] | None = None, names: list[str] | None = None, epochs: int = 3, **summary: Any
    ) -> Path:
        evaluation = digits if evaluation is None else evaluation
        classes = names or [str(digit) for digit in range(10)]
        whole = {
            "job": "pipeline",
            "command": "python -m launch train.epochs=3",
            "model": "cnn",
            "workers": 2,
            "attempts": 1,
            "dataset": {
                "name": "digits",
                "fingerprint": "9f3c12ab",
                "classes": classes,
                "path": "",
                "rejected": 0,
                "counts": {"train": dict.fromkeys(classes, 125), "test": dict.fromkeys(classes, 27)},
            },
            "schema_version": 2,
            "train": {
                "epochs": epochs,
                "steps": 30,
                "best_epoch": 2,
                "loss": 0.1,
                "accuracy": 0.9,
                "learning_rate": 0.001,
                "images_per_second": 2534.2,
            },
            "seconds": {"spark": 6.5, "train": 13.0, "total": 21.0},
            "config": dataclasses.asdict(Config()),
            "versions": {"python": "3.11.2"},
            **{split: codec.to_plain(split_entry(Counts.from_plain(counts))) for split, counts in evaluation.items()},
            **summary,
        }
        (tmp_path / "summary.json").write_text(json.dumps(whole))
        (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
        if epochs:
            (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events(epochs)))
        return tmp_path

    return make
