"""What the benchmarks share: a run of the launcher, a Spark session, medians, a table."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SECONDS = 600.0
_ROOT = Path(__file__).resolve().parents[1]


def launch(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``python -m launch`` with its run folder at ``folder``; its summary.json."""
    command = [sys.executable, "-m", "launch", *arguments, f"hydra.run.dir={folder}", "job.console=lines"]
    run(command)
    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


def environment() -> dict[str, str]:
    """For a process that computes on CPUs; it and those that Spark starts for it can import ``benchmarks``."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return {**os.environ, **own}


def run(command: Sequence[str]) -> str:
    """Run ``command`` to its end, from any folder; its standard output. Raises RuntimeError when it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment(), check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


@contextmanager
def spark(slots: int) -> Iterator["SparkSession"]:
    """A session on ``local[slots]``, as the launcher starts it; it is stopped at the end."""
    from distributed_cls.config import ClusterConfig
    from distributed_cls.spark.session import Session

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        session = Session(ClusterConfig(master=f"local[{slots}]", workers=slots), Path(folder))
        try:
            yield session.spark
        finally:
            session.stop()


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
