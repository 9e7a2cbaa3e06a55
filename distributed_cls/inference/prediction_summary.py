"""What a predict or stream job found, counted over its rows and shown as a short table."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distributed_cls import storage
from distributed_cls.contracts import predict_output
from distributed_cls.contracts.predicted import PredictedClass, PredictionSummary, UnreadImage
from distributed_cls.text import printable

_REJECTS_KEPT = 20
_ROWS_SHOWN = 15
_REJECTS_SHOWN = 3


def counted(summary: PredictionSummary, names: Iterable[str]) -> PredictionSummary:
    """The summary with the counts of all rows in these files of its output.

    The rows are read a few thousand at a time, so that any number of them fits in memory. Raises UserError.
    """
    images: Counter[str] = Counter()
    confidence: defaultdict[str, float] = defaultdict(float)
    rejected = none_of_these = labelled = correct = files = 0
    rejects: list[UnreadImage] = []
    for name in names:
        files += 1
        for row in predict_output.read_rows(storage.join(summary.output, name)):
            if row.label is None or row.confidence is None:
                rejected += 1
                if len(rejects) < _REJECTS_KEPT:
                    rejects.append(UnreadImage(row.path, row.error or ""))
                continue
            if row.accepted is False:
                none_of_these += 1
                continue
            images[row.label] += 1
            confidence[row.label] += row.confidence
            labelled += row.truth is not None
            correct += row.truth == row.label
    classified = sum(images.values())
    return dataclasses.replace(
        summary,
        images=classified + none_of_these + rejected,
        classified=classified,
        none_of_these=none_of_these,
        rejected=rejected,
        labels={label: PredictedClass(n, confidence[label] / n) for label, n in images.most_common()},
        rejects=rejects,
        labelled=labelled,
        correct=correct,
        files=files,
    )


def show(summary: PredictionSummary, console: Console) -> None:
    """Print the classes found, what could not be read and why, and the accuracy where it is known."""

    def print_line(text: str) -> None:
        # soft_wrap: a path that is cut in two cannot be pasted.
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    print_line(f"{_images(summary.classified)} classified by {summary.model}")
    if summary.labels:
        console.print(_table(summary.labels))
    if summary.none_of_these:
        print_line(f"  {_images(summary.none_of_these)} below the model's threshold: none of these classes")
    if summary.rejected:
        print_line(f"  {_images(summary.rejected)} could not be read; the row says why:")
        for reject in summary.rejects[:_REJECTS_SHOWN]:
            print_line(f"    {printable(reject.path)}: {reject.error}")
        if summary.rejected > _REJECTS_SHOWN:
            print_line(f"    and {summary.rejected - _REJECTS_SHOWN:,} more (the rows with an error)")
    if summary.accuracy is not None:
        print_line(f"  accuracy {summary.accuracy:.1%} of the {_images(summary.labelled)} whose class is known")
    print_line(f"  results: {printable(summary.output)}")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _table(labels: dict[str, PredictedClass]) -> Table:
    table = Table()
    table.add_column("label")
    table.add_column("images", justify="right")
    table.add_column("mean confidence", justify="right")
    for label, found in list(labels.items())[:_ROWS_SHOWN]:
        table.add_row(escape(label), f"{found.images:,}", f"{found.mean_confidence:.3f}")
    if len(labels) > _ROWS_SHOWN:
        rest = list(labels.values())[_ROWS_SHOWN:]
        table.add_row(f"{len(rest)} more", f"{sum(found.images for found in rest):,}", "")
    return table
