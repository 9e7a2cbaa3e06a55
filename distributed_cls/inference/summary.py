"""What a predict or stream job found, in figures and as a short table on screen."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from distributed_cls.inference.storage import Folder

_REJECTS_KEPT = 20
_ROWS_SHOWN = 15


def of_parts(output: Folder, names: Iterable[str]) -> dict[str, Any]:
    """Count the rows of result files, a few thousand at a time, so that any number of them fits in memory."""
    images: Counter[str] = Counter()
    confidence: defaultdict[str, float] = defaultdict(float)
    rejected = labelled = correct = 0
    rejects: list[dict[str, str]] = []
    for name in names:
        with output.open(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(
                4096, columns=["path", "label", "confidence", "error", "truth"]
            ):
                for row in batch.to_pylist():
                    if row["error"] is not None:
                        rejected += 1
                        rejects += [{"path": row["path"], "error": row["error"]}] * (len(rejects) < _REJECTS_KEPT)
                        continue
                    images[row["label"]] += 1
                    confidence[row["label"]] += row["confidence"]
                    labelled += row["truth"] is not None
                    correct += row["truth"] == row["label"]
    classified = sum(images.values())
    labels = {label: {"images": n, "mean_confidence": confidence[label] / n} for label, n in images.most_common()}
    told = {"images": classified + rejected, "classified": classified, "rejected": rejected, "labels": labels}
    told |= {"rejects": rejects, "labelled": labelled}
    return told | ({"correct": correct, "accuracy": correct / labelled} if labelled else {})


def show(told: dict[str, Any]) -> None:
    """Print the summary: the classes found, what was left out and why, the accuracy where it is known."""
    console = Console()
    table = Table(title=f"{told['classified']} images classified by {told['model']}", title_justify="left")
    table.add_column("label")
    table.add_column("images", justify="right")
    table.add_column("mean confidence", justify="right")
    for label, found in list(told["labels"].items())[:_ROWS_SHOWN]:
        table.add_row(label, str(found["images"]), f"{found['mean_confidence']:.3f}")
    if len(told["labels"]) > _ROWS_SHOWN:
        rest = list(told["labels"].values())[_ROWS_SHOWN:]
        table.add_row(f"{len(rest)} more", str(sum(found["images"] for found in rest)), "")
    console.print(table)
    for reject in told["rejects"][:3]:
        console.print(f"  left out: {reject['path']}: {reject['error']}", markup=False, highlight=False)
    if told["rejected"]:
        console.print(f"  {told['rejected']} images are rows with an error instead of a label", highlight=False)
    if "accuracy" in told:
        words = f"  accuracy {told['accuracy']:.4f} on the {told['labelled']} images whose class is known"
        console.print(words, highlight=False)
    console.print(f"  results: {told['output']}", markup=False, highlight=False, soft_wrap=True)
