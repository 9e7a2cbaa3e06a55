"""Sweeps: from the end of a trial to the first step of the next, trials side by side, and what memory becomes of it.

``python -m benchmarks.sweeps [--trials N]``. Each trial trains the dense network on the digits with one worker of one
thread, on ``local[2]``.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import measure

_POLL_SECONDS = 0.5
_LIMIT_SECONDS = 3600.0


@dataclass
class Sweep:
    """One sweep: its wall time, what it said, and the memory of its processes after each trial, in MiB."""

    folder: Path
    seconds: float = 0.0
    output: str = ""
    memory: list[float] = field(default_factory=list)

    @property
    def gaps(self) -> list[float]:
        """Seconds from the end of each trial to the first step of the one after it."""
        numbers = range(sum(path.name.isdecimal() for path in self.folder.iterdir()) - 1)
        return [_first_step(self.folder / str(n + 1)) - _end(self.folder / str(n)) for n in numbers]

    @property
    def busy(self) -> str:
        said = [line for line in self.output.splitlines() if line.startswith("slots ")]
        return said[0].split()[2] if said else "-"


def _command(root: Path, folder: Path, *more: str) -> list[str]:
    flags = [item for item in more if item.startswith("-")]  # before the settings
    return [
        *(sys.executable, "-m", "launch", *flags),
        *("job=train", "model=dense", "train.epochs=2", "cluster.master='local[2]'", "cluster.workers=1"),
        *("cluster.cores_per_worker=1", "job.console=lines", f"dataset_root={root / 'datasets'}"),
        *(f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}", *(item for item in more if item not in flags)),
    ]


def _first_step(run: Path) -> float:
    """When the first step was reported, in seconds since 1970."""
    with (run / "metrics.jsonl").open(encoding="utf-8") as stream:
        return float(json.loads(stream.readline())["time"])


def _end(run: Path) -> float:
    return float(json.loads((run / "status.json").read_text(encoding="utf-8"))["updated"])


def _cold(root: Path) -> float:
    """Seconds from a command of its own to its first step."""
    folder, began = root / "cold", time.time()
    measure.run(_command(root, folder))
    return _first_step(folder) - began


def _sweep(root: Path, name: str, trials: int, *more: str) -> Sweep:
    """Run a sweep of ``trials`` seeds to its end."""
    found, began = Sweep(root / name), time.monotonic()
    seeds = ",".join(map(str, range(trials)))
    with (root / f"{name}.txt").open("w+", encoding="utf-8") as output:
        command = _command(root, found.folder, "-m", f"train.seed={seeds}", *more)
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=measure.environment())
        try:
            while process.poll() is None and time.monotonic() - began < _LIMIT_SECONDS:
                if _ended(found.folder) > len(found.memory):
                    found.memory.append(_memory(process.pid))
                time.sleep(_POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
        found.seconds = time.monotonic() - began
        output.seek(0)
        found.output = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{found.output}")
    return found


def _ended(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        rows = json.loads((folder / "trials.json").read_text(encoding="utf-8"))["trials"]
        return sum(row["status"] == "done" for row in rows)
    return 0


def _memory(pid: int) -> float:
    """Of a process and all below it, in MiB; what several share counts once (PSS)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total / 2**20


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweeps", description=__doc__)
    parser.add_argument("--trials", type=int, default=10)
    trials = parser.parse_args(arguments).trials
    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
        root = Path(folder)
        measure.tell("preparing the digits")
        measure.run(_command(root, root / "first"))
        measure.tell("a cold start")
        cold = _cold(root)
        measure.tell(f"{trials} trials one after the other")
        alone = _sweep(root, "alone", trials)
        measure.tell(f"{trials} trials side by side")
        beside = _sweep(root, "beside", trials, "sweep.parallel=auto")
        gaps = alone.gaps
    rows = [
        ("a command of its own → its first step, s", f"{cold:.2f}"),
        ("end of a trial → first step of the next, s", measure.spread(gaps)),
        ("÷ a command of its own; the goal is 0.25", f"{statistics.median(gaps) / cold:.2f}"),
        (f"{trials} trials one after the other, s", f"{alone.seconds:.1f}"),
        (f"{trials} trials side by side, s", f"{beside.seconds:.1f}"),
        ("slots busy side by side; the goal is 0.9", beside.busy),
    ]
    for name, sweep in (("one after the other", alone), ("side by side", beside)):
        if len(sweep.memory) > 3:
            shown = f"{sweep.memory[2]:,.0f} → {sweep.memory[-1]:,.0f}"
            rows.append((f"memory {name} after 3 trials → at the end, MiB; the goal is 1.2 times", shown))
    measure.show("Sweeps on local[2]", ("", ""), rows)


if __name__ == "__main__":
    main()
