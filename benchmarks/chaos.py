"""``make chaos``: runs that are disturbed at random moments, against one that is not: the same weights, bit for bit?

On a real ``local-cluster`` of two executors. Each run trains the same small network from the start; one fault strikes
it at a moment that its seed decides. Prints, for each kind of fault: how many ended by themselves with the same bits,
the seconds that the fault cost, and where they went; and what a cold start of the same job takes.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import logging
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import measure
from benchmarks.faults import FAULTS, FULL_DISK, WORKERS, Observed, Strike, never, once
from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.supervisor import run_ranks
from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.events import Event
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.dataset import prepare
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.spark.session import Session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CLUSTER = ClusterConfig(
    name="chaos",
    master=f"local-cluster[{WORKERS},1,1024]",
    workers=WORKERS,
    stall_timeout=30.0,
    reconnect_timeout=8.0,
    slot_timeout=120.0,
    max_attempts=5,
)
_DISK_SIZE = "32m"  # of the run folder


class Arena:
    """One Spark session, one crew, one data set: runs of the same job, disturbed or not."""

    def __init__(
        self, spark: "SparkSession", scratch: Path, epochs: int, small_disk: bool, spark_seconds: float
    ) -> None:
        """``small_disk``: whether ``scratch/runs`` is one. ``spark_seconds``: what the start of ``spark`` took."""
        self._spark, self._folder = spark, scratch / "runs"  # of which only the latest run is kept
        self.small_disk, self.spark_seconds = small_disk, spark_seconds
        self.crew = Crew(CLUSTER)
        self._runs = 0
        data = DataConfig(image_size=16)
        self._data = prepare.prepare(lambda: spark, data, str(scratch / "datasets"))
        train = TrainConfig(
            epochs=epochs, batch_size=64, deterministic=True, checkpoint_seconds=3.0, keep_checkpoints=3
        )
        self._config = Config(data=data, model=CnnConfig(filters=[8, 16], units=32), train=train, cluster=CLUSTER)

    def run(self, strike: Strike = never, epochs: int | None = None) -> Observed:
        """Train once, for ``epochs`` in the place of the arena's own; what was seen. Raises whatever ends the run."""
        self._runs += 1
        shutil.rmtree(self._folder / f"run-{self._runs - 1}", ignore_errors=True)
        folder = self._folder / f"run-{self._runs}"
        folder.mkdir()
        manifest = self._data.manifest
        config = self._config
        if epochs:
            config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))
        task = RankTask(config, self._data.path, manifest.fingerprint, str(folder), (Step.TRAIN,))
        seen = Observed(self.crew, folder / "checkpoints")

        def listen(event: Event) -> None:
            seen(event)
            strike(seen)

        run_ranks(self._spark, task, self.crew, listen)
        return seen

    def bits(self, seen: Observed) -> str:
        """A digest of every array of the last checkpoint."""
        with np.load(seen.checkpoints / checkpoint.LAST) as stored:
            digest = hashlib.sha256()
            for name in sorted(set(stored.files) - {"position.json"}):
                digest.update(name.encode() + stored[name].tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        self.crew.close()


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """``folder`` on a disk of its own; False where nothing can be mounted, and it is a plain folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_SIZE}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def arena(epochs: int) -> Iterator[Arena]:
    """An arena in a folder of its own; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, _small_disk(Path(scratch, "runs")) as small:
        began = time.monotonic()
        session = Session(CLUSTER, Path(scratch, "session"))
        try:
            spark = session.spark
            made = Arena(spark, Path(scratch), epochs, small, time.monotonic() - began)
            try:
                yield made
            finally:
                made.close()
        finally:
            session.stop()


def _cost(seen: Observed) -> list[float] | None:
    """Seconds: all, until the driver knew, until all were stopped, until they trained again, until the new step."""
    times = [seen.struck, seen.failed or seen.restarted, seen.restarted, seen.training, seen.stepped]
    if any(moment is None for moment in times):
        return None
    known: list[Any] = times
    return [known[-1] - known[0], *(later - earlier for earlier, later in itertools.pairwise(known))]


@dataclass
class _Tally:
    """What became of the runs with one kind of fault."""

    runs: int = 0
    same: int = 0  # ended by themselves, with the same bits
    costs: list[list[float]] = field(default_factory=list)  # as ``_cost`` gives them

    def row(self, fault: str, cold: float) -> list[str]:
        head = [fault, f"{self.same} of {self.runs}"]
        if not self.costs:
            return [*head, *["–"] * 7]
        columns = list(zip(*self.costs, strict=True))
        medians = [statistics.median(column) for column in columns]
        p95 = sorted(columns[0])[min(len(self.costs) - 1, int(0.95 * len(self.costs)))]
        return [*head, *(f"{seconds:.1f}" for seconds in medians), f"{p95:.1f}", f"{medians[0] / cold:.2f}"]


def _disturb(made: Arena, kind: str, chosen: random.Random, after: float, expected: str, tally: _Tally) -> None:
    tally.runs += 1
    try:
        seen = made.run(once(kind, chosen, after))
    except Exception as error:
        measure.tell(f"  it did not end by itself: {error}")
        return
    if not seen.struck:
        measure.tell("  it had ended before the fault, and does not count")
        tally.runs -= 1
    elif made.bits(seen) == expected:
        tally.same += 1
    else:
        measure.tell("  it ended with other bits")
    cost = _cost(seen)
    if cost:
        tally.costs.append(cost)


def main(arguments: list[str] | None = None) -> int:
    """Disturb runs, print the table; 0 when every run ended by itself with the same bits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="disturbed runs in all (default: 100)")
    parser.add_argument("--only", choices=sorted(FAULTS), help="this fault alone")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of each run (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the victims (default: 1)")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    with arena(given.epochs) as made:
        kinds = [given.only] if given.only else [kind for kind in FAULTS if made.small_disk or kind != FULL_DISK]
        if not made.small_disk:
            measure.tell(f"chaos: without the fault {FULL_DISK!r}, nothing can be mounted here")
        tallies = {kind: _Tally() for kind in kinds}
        began = time.monotonic()
        cold = made.spark_seconds + made.run().trained[0][0] - began
        undisturbed = made.run()  # the second one: the first is slower
        lasted = undisturbed.trained_seconds
        expected = made.bits(undisturbed)
        for number in range(given.runs):
            kind = kinds[number % len(kinds)]
            chosen = random.Random(given.seed * 1_000_003 + number)
            after = chosen.uniform(0.0, 0.8 * lasted)
            measure.tell(f"chaos, run {number + 1} of {given.runs}: {kind} after {after:.1f} s of training")
            _disturb(made, kind, chosen, after, expected, tallies[kind])
    measure.show(
        f"Runs of {lasted:.0f} s of training that were disturbed once. Seconds are medians. A cold start, of Spark and "
        f"of the ranks to their first steps, takes {cold:.1f} s",
        ["fault", "same bits", "cost", "noticed", "stopped", "started", "replayed", "p95 of cost", "cost ÷ cold"],
        [tally.row(kind, cold) for kind, tally in tallies.items()],
    )
    return 0 if all(tally.same == tally.runs for tally in tallies.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
