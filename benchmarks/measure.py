"""What the benchmarks share: a run of the launcher, medians, a table."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_SECONDS = 600.0


def launch(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``python -m launch`` with its run folder at ``folder``; its summary.json."""
    command = [sys.executable, "-m", "launch", *arguments, f"hydra.run.dir={folder}", "job.console=lines"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range in which the values lie."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def tell(step: str) -> None:
    """Say on standard error what is being measured now; the tables come on standard output when all is done."""
    print(f"benchmark: {step}", file=sys.stderr, flush=True)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
