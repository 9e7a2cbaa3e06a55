"""From ``python -m launch`` to the first training step: where the seconds go."""

import tempfile
from pathlib import Path

from benchmarks import measure

STAGES = ("launch", "spark", "prepare", "rendezvous", "tensorflow", "tracing")
ROUNDS = 3


def main() -> None:
    """Measure ``ROUNDS`` runs whose data must be prepared, each followed by one that finds them prepared."""
    seconds: dict[str, list[dict[str, float]]] = {"data to prepare": [], "data prepared": []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for number in range(ROUNDS):
            root = Path(scratch, str(number))
            for kind, runs in seconds.items():
                measure.tell(f"start, {kind}, run {number + 1} of {ROUNDS}")
                arguments = ("train.epochs=1", f"dataset_root={root / 'datasets'}")
                runs.append(measure.launch(root / kind.replace(" ", "-"), *arguments)["seconds"])
    rows = [
        [stage, *(measure.spread([run.get(stage, 0.0) for run in runs]) for runs in seconds.values())]
        for stage in STAGES
    ]
    sums = [[sum(run.get(stage, 0.0) for stage in STAGES) for run in runs] for runs in seconds.values()]
    rows.append(["to the first step", *(measure.spread(values) for values in sums)])
    measure.show(f"Seconds to the first step, median of {ROUNDS} (range)", ["stage", *seconds], rows)
