"""Two workers of the framework against the same loop by hand in two bare processes, in turn, on the same shards."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import measure

ROUNDS = 5
EPOCHS = 30


def main() -> None:
    """Print images per second of both sides and the ratio of each round."""
    framework, bare = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch)
        for number in range(ROUNDS):
            measure.tell(f"training, round {number + 1} of {ROUNDS}")
            arguments = ("model=cnn", f"train.epochs={EPOCHS}", "job=train", f"dataset_root={root / 'datasets'}")
            summary = measure.launch(root / f"run-{number}", *arguments)
            framework.append(summary["train"]["images_per_second"])
            bare.append(_bare(summary["dataset"]["path"], root / f"bare-{number}.log"))
    ratios = [ours / theirs for ours, theirs in zip(framework, bare, strict=True)]
    measure.show(
        f"Training throughput, CNN at 32 pixels, global batch 128, two workers: median of {ROUNDS} rounds (range)",
        ["side", "images/s"],
        [
            ["framework on Spark", measure.spread(framework, 0)],
            ["hand-written loop, two bare processes", measure.spread(bare, 0)],
            ["framework ÷ bare (goal ≥ 0.95)", measure.spread(ratios)],
        ],
    )


def _bare(dataset: str, log: Path) -> float:
    """Images per second of two bare processes, started and ended here."""
    ports = _free_ports(2)
    workers = []
    for rank in range(2):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bare_worker", dataset, str(EPOCHS)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log.open("a", encoding="utf-8"),
                text=True,
            )
        )
    try:
        assert workers[0].stdout is not None
        line = workers[0].stdout.readline()
        if not line:
            raise RuntimeError(f"a bare worker ended without a figure:\n{log.read_text(encoding='utf-8')[-2000:]}")
        return float(json.loads(line)["images_per_second"])
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            worker.wait(timeout=60)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports
