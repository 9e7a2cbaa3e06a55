"""The framework against other ways to train one network: ``python -m benchmarks.peers [--rounds 5] [--epochs 30]``.

One network, one data set (digits at 32 pixels), one global batch, optimizer and number of steps; the sides take turns,
each round begins with another one. Timed are the training steps, input included, of all epochs but the first, by rank
0's clock; what lies between two epochs (validation, checkpoints, callbacks) is left out on every side.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.peer_task import PeerResult, PeerTask

GLOBAL_BATCH = 128
LEARNING_RATE = 1e-3
_IMPORT_SECONDS = 120.0
# Two ranks of one thread each, on any machine.
OURS = (
    "model=cnn",
    "data=digits",
    "cluster=local",
    "cluster.master='local[2]'",
    "cluster.workers=2",
    "cluster.cores_per_worker=1",
    f"train.batch_size={GLOBAL_BATCH}",
    "train.optimizer=adam",
    f"train.learning_rate={LEARNING_RATE}",
    "train.schedule=constant",
    "job=train",
    # A run that was resumed has another rhythm: a failure ends the benchmark.
    "cluster.max_attempts=1",
)


@dataclass(frozen=True)
class Peer:
    """A side to compare with: ``benchmarks/peer_<module>.py``; it runs where ``needs`` can be imported."""

    module: str
    title: str
    goal: float  # least of ours ÷ peer
    needs: str | None = None


PEERS = (
    Peer("distributor", "spark-tensorflow-distributor, tf_keras fit", 1.2, "tf_keras"),
    Peer("keras", "Keras 3 fit, one process, two threads", 1.0),
    Peer("torch", "TorchDistributor, DDP over gloo", 1.2, "torch"),
)
Side = Callable[[int], PeerResult]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of a training, of which all but one are timed")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.epochs < 2:
        parser.error("expected 1 round and 2 epochs at least: the first epoch is not timed")
    present = [peer for peer in PEERS if peer.needs is None or _imports(peer.needs)]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch)
        task = _prepare(root, options.epochs)
        sides: dict[str, Side] = {"ours": functools.partial(_ours, root, task)}
        for peer in present:
            sides[peer.module] = functools.partial(_peer, root, task, peer)
        results = in_turns(sides, options.rounds)
    check_networks(results)
    measure.show(
        f"Training throughput, CNN at 32 pixels, global batch {GLOBAL_BATCH}: median of {options.rounds} (range)",
        ["side", "images/s", "last loss", "ours ÷ side", "goal"],
        table(results),
    )


def in_turns(sides: dict[str, Side], rounds: int) -> dict[str, list[PeerResult]]:
    """The results of each side, round by round. Every round begins with the next side: none is always the first."""
    results: dict[str, list[PeerResult]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measure.tell(f"peers, round {number + 1} of {rounds}: {name}")
            results[name].append(sides[name](number))
            # At once: a later failure must not take with it what was measured.
            measure.tell(f"    {results[name][-1].images_per_second:,.0f} images/s")
    return results


def table(results: dict[str, list[PeerResult]]) -> list[list[str]]:
    """Rows of the table: ours, then every peer with the ratio of each round, or why it was left out."""

    def row(title: str, runs: list[PeerResult], ratio: str, goal: str) -> list[str]:
        speeds = [run.images_per_second for run in runs]
        losses = [run.loss for run in runs]
        return [title, measure.spread(speeds, 0), f"{min(losses):.3f} to {max(losses):.3f}", ratio, goal]

    ours = results["ours"]
    rows = [row("framework on Spark, two ranks", ours, "", "")]
    for peer in PEERS:
        if peer.module in results:
            pairs = zip(ours, results[peer.module], strict=True)
            ratios = [mine.images_per_second / theirs.images_per_second for mine, theirs in pairs]
            rows.append(row(peer.title, results[peer.module], measure.spread(ratios), f"≥ {peer.goal}"))
        else:
            rows.append([peer.title, f"skipped: {peer.needs} cannot be imported", "", "", f"≥ {peer.goal}"])
    return rows


def check_networks(results: dict[str, list[PeerResult]]) -> None:
    """Raise RuntimeError when two sides have trained different networks."""
    parameters = {name: runs[0].parameters for name, runs in results.items() if runs[0].parameters is not None}
    if len(set(parameters.values())) > 1:
        found = ", ".join(f"{name} {count:,}" for name, count in parameters.items())
        raise RuntimeError(f"Expected one network on every side. Received trainable parameters: {found}.")


def ours_from(metrics: Path, task: PeerTask) -> PeerResult:
    """What ``metrics.jsonl`` of a run says of its epochs but the first."""
    events = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    epochs = [event for event in events if event["event"] == "epoch" and event["split"] == "train"]
    numbers = [event["epoch"] for event in epochs]
    if numbers != list(range(1, task.epochs + 1)):
        raise RuntimeError(f"Expected epochs 1 to {task.epochs} in {metrics}, each once. Received: {numbers}.")
    images = task.steps * task.global_batch
    seconds = [images / event["values"]["images_per_second"] for event in epochs]
    return PeerResult.of_epochs(task, seconds, epochs[-1]["values"]["loss"])


def _prepare(root: Path, epochs: int) -> PeerTask:
    """Prepare the data set with a run of one epoch, and write down the same training for the peers."""
    measure.tell("peers, the data set")
    summary = measure.launch(root / "first", *OURS, "train.epochs=1", f"dataset_root={root / 'datasets'}")
    data = root / "data.npz"
    measure.run([sys.executable, "-m", "benchmarks.peer_data", summary["dataset"]["path"], str(data)])
    classes, steps = len(summary["dataset"]["classes"]), summary["train"]["steps"]
    task = PeerTask(str(data), classes, epochs, steps, GLOBAL_BATCH, LEARNING_RATE)
    task.write(root / "task.json")
    return task


def _ours(root: Path, task: PeerTask, number: int) -> PeerResult:
    folder = root / f"ours-{number}"
    measure.launch(folder, *OURS, f"train.epochs={task.epochs}", f"dataset_root={root / 'datasets'}")
    return ours_from(folder / "metrics.jsonl", task)


def _peer(root: Path, task: PeerTask, peer: Peer, number: int) -> PeerResult:
    result = root / f"{peer.module}-{number}.json"
    measure.run([sys.executable, "-m", "benchmarks.peer", peer.module, str(root / "task.json"), str(result)])
    return PeerResult.read(result)


def _imports(module: str) -> bool:
    """Whether ``module`` can be imported: in a process of its own, a damaged installation may end it."""
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, timeout=_IMPORT_SECONDS, check=False).returncode == 0


if __name__ == "__main__":
    main(sys.argv[1:])
