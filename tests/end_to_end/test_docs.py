"""The Python code of the pages runs on what a run leaves, and the commands that cost nothing answer."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.inference_support import ENVIRONMENT, digit_images, digit_png, digits_model
from tests.patience import PATIENCE

PAGES = ("recipes.md", "report.md", "serving.md")

# What else a run leaves beside its model, made by the contracts' own writers from the model's answers: nothing is
# trained for it. The backbone is one with random weights.
_RUN = """
import sys
from pathlib import Path

import keras
import numpy as np
import pandas
import tensorflow as tf

from distributed_cls.config import Config, to_dict
from distributed_cls.contracts import checkpoint, evaluation_result, events
from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.evaluation_result import EvaluatedSplit
from distributed_cls.contracts.events import EpochEnded, Metrics
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.evaluation.metrics import split_entry
from distributed_cls.training.outcomes import Predictions
from tests.end_to_end.inference_support import digit_images

run = Path(sys.argv[1])
model = keras.models.load_model(run / "model" / "model.keras")
images, labels = (part[1600:1700] for part in digit_images())
answers = model.predict(images.astype("float32"), verbose=0)
top = np.argsort(-answers)[:, :5]
hits = (top == labels[:, None]).any(axis=1)
losses = -np.log(answers[np.arange(100), labels])
columns = (labels, np.ones(100), top, np.take_along_axis(answers, top, 1), losses, hits)
counts = Predictions(tuple(column[None] for column in columns)).counts(10)
entry, classes = split_entry(counts), [str(digit) for digit in range(10)]
shares = {split: dict.fromkeys(classes, 10) for split in ("train", "val", "test")}
dataset = DatasetEntry("digits", "0" * 16, "/nowhere", classes, shares)
summaries.write(
    run, Summary("pipeline", {"total": 1.0}, to_dict(Config()), model="cnn", dataset=dataset, val=entry, test=entry)
)
evaluation_result.write(run, {split: EvaluatedSplit(counts) for split in ("val", "test")})
values = Metrics(1.0, 0.5)
lines = [EpochEnded(split=split, epoch=n, step=n, values=values) for n in (1, 2) for split in ("train", "val")]
(run / "metrics.jsonl").write_text("".join(events.dumps(line) + chr(10) for line in lines))
arrays = {f"{index:05d}:{item.name}": np.array(item) for index, item in enumerate(model.variables)}
checkpoint.write(run / "checkpoints" / "last.npz", arrays, Position(epoch=2, best_epoch=1, best_accuracy=0.5))
rows = {"path": "x", "split": "test", "truth": labels.astype(str), "label": top[:, 0].astype(str)}
pandas.DataFrame({**rows, "confidence": answers.max(1)}).to_parquet(run / "predictions.parquet")
"""

_BLOCKS = """
import json
import sys

for name, code in json.load(sys.stdin):
    print("#", name, flush=True)
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
print("# all")
"""


def _blocks() -> list[tuple[str, str]]:
    """(where it stands, code) of every block of Python code."""
    found = []
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        found += [(f"{page}, block {number}", code) for number, code in enumerate(blocks, start=1)]
    return found


def _python(*arguments: str, folder: Path, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_code_of_the_pages_runs(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "cars"
    run.mkdir(parents=True)
    (run / "model").symlink_to(digits_model() / "model")
    (tmp_path / "runs" / "latest").symlink_to("cars")
    (tmp_path / "photo.jpg").write_bytes(digit_png())
    _python("-c", _RUN, str(run), folder=tmp_path)
    blocks = _blocks()
    assert {name.partition(",")[0] for name, _ in blocks} == set(PAGES)
    said = _python("-c", _BLOCKS, folder=tmp_path, given=json.dumps(blocks)).splitlines()
    assert [line[2:] for line in said if line.startswith("# ")] == [*(name for name, _ in blocks), "all"]
    truth = str(digit_images()[1][1600])
    assert said[-2] == truth  # serving.md: the class of the picture
    assert any(line.split()[0] == truth and float(line.split()[1]) > 0.5 for line in said if line[:1].isdigit())
    assert "(1, 10)" in said  # recipes.md: the shape of the logits
    assert "2 1 0.5" in said  # recipes.md: the epochs and the accuracy of the checkpoint
    assert (run / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "train.learning_rate"),
        (["--help", "train"], "train.learning_rate"),
        (["data=folder", "--help", "data"], "224"),
        (["--version"], "distributed_cls "),
        (["--cfg", "job"], "source: digits"),
        (["--main-file"], "launch/__main__.py"),
    ],
    ids=" ".join,
)
def test_commands_that_cost_nothing_answer(arguments: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in _python("-m", "launch", *arguments, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []  # no run folder is left
