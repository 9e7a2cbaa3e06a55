"""What a predict or stream job found, in figures and as a short table on screen."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distributed_cls import storage

_REJECTS_KEPT = 20
_ROWS_SHOWN = 15
_REJECTS_SHOWN = 3


def of_parts(output: str, names: Iterable[str]) -> dict[str, Any]:
    """Count the rows of result files, a few thousand at a time, so that any number of them fits in memory."""
    images: Counter[str] = Counter()
    confidence: defaultdict[str, float] = defaultdict(float)
    rejected = labelled = correct = 0
    rejects: list[dict[str, str]] = []
    for name in names:
        with storage.open_read(storage.join(output, name)) as stream:
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
    """Print the summary: the classes found, what could not be read and why, the accuracy where it is known."""
    console = Console()

    def say(words: str) -> None:
        # soft_wrap: a path that is cut in two cannot be pasted.
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    say(f"{_images(told['classified'])} classified by {told['model']}")
    if told["labels"]:
        console.print(_table(told["labels"]))
    if told["rejected"]:
        say(f"  {_images(told['rejected'])} could not be read; the row says why:")
        for reject in told["rejects"][:_REJECTS_SHOWN]:
            say(f"    {reject['path']}: {reject['error']}")
        if told["rejected"] > _REJECTS_SHOWN:
            say(f"    and {told['rejected'] - _REJECTS_SHOWN:,} more (the rows with an error)")
    if "accuracy" in told:
        say(f"  accuracy {told['accuracy']:.1%} of the {_images(told['labelled'])} whose class is known")
    say(f"  results: {told['output']}")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _table(labels: dict[str, dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("label")
    table.add_column("images", justify="right")
    table.add_column("mean confidence", justify="right")
    for label, found in list(labels.items())[:_ROWS_SHOWN]:
        table.add_row(escape(label), f"{found['images']:,}", f"{found['mean_confidence']:.3f}")
    if len(labels) > _ROWS_SHOWN:
        rest = list(labels.values())[_ROWS_SHOWN:]
        table.add_row(f"{len(rest)} more", f"{sum(found['images'] for found in rest):,}", "")
    return table
