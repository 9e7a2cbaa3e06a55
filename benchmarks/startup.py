"""From ``python -m launch`` to the first training step: where the seconds go, and what a bare start takes beside it."""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks import measure

STAGES = ("launch", "spark", "prepare", "rendezvous", "tensorflow", "tracing")
ROUNDS = 3


def main() -> None:
    """Measure ``ROUNDS`` rounds: a run whose data must be prepared, one that finds them prepared, a bare start."""
    seconds: dict[str, list[dict[str, float]]] = {"data to prepare": [], "data prepared": []}
    bare: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for number in range(ROUNDS):
            root = Path(scratch, str(number))
            for kind, runs in seconds.items():
                measure.tell(f"start, {kind}, round {number + 1} of {ROUNDS}")
                arguments = ("model=cnn", "train.epochs=1", f"dataset_root={root / 'datasets'}")
                runs.append(measure.launch(root / kind.replace(" ", "-"), *arguments)["seconds"])
            measure.tell(f"start, bare, round {number + 1} of {ROUNDS}")
            bare.append(json.loads(measure.run([sys.executable, "-m", "benchmarks.bare_start"])))
    rows = [
        [stage, *(measure.spread([run.get(stage, 0.0) for run in runs]) for runs in seconds.values())]
        for stage in STAGES
    ]
    sums = [[sum(run.get(stage, 0.0) for stage in STAGES) for run in runs] for runs in seconds.values()]
    rows.append(["to the first step", *(measure.spread(values) for values in sums)])
    measure.show(f"Seconds to the first step, median of {ROUNDS} (range)", ["stage", *seconds], rows)
    together = [sum(parts.values()) for parts in bare]
    ratios = [ours / theirs for ours, theirs in zip(sums[1], together, strict=True)]
    measure.show(
        "A bare start: plain Spark, then TensorFlow, then the first step of the same network",
        ["part", "seconds"],
        [
            *([part, measure.spread([parts[part] for parts in bare])] for part in bare[0]),
            ["together", measure.spread(together)],
            ["ours, data prepared ÷ bare (goal ≤ 0.8)", measure.spread(ratios)],
        ],
    )
