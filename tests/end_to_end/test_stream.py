"""The stream job: each image exactly once in the output, also when the whole job is killed at random moments."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from tests.end_to_end.inference_support import ENVIRONMENT, digits_model, write_images
from tests.patience import PATIENCE

_STREAM = """
import json
import sys
from pathlib import Path
from distributed_cls.config import ClusterConfig, Config, DataConfig, JobConfig
from distributed_cls.config.inference_sections import StreamConfig
from distributed_cls.inference import stream
from distributed_cls.run.progress import Display
from distributed_cls.spark.session import Session

model_dir, source, output, scratch, settings = sys.argv[1:]
# One Python worker is enough here, and starts twice as fast as two.
cluster = ClusterConfig(master="local[2]", workers=1, spark={"spark.default.parallelism": "1"})
session = Session(cluster, Path(scratch))
config = Config(
    job=JobConfig(name="stream"),
    data=DataConfig(source="folder", path=source),
    model_dir=model_dir,
    output=output,
    stream=StreamConfig(**json.loads(settings)),
)
try:
    stream.run(lambda: session.spark, config, Display(None))
finally:
    session.stop()
"""


# Spark's readers would take it for a pattern, which no file matches.
INBOX = "inbox [1] {new} Ü?"


class Job:
    """A stream job in a process group of its own, so that it can be killed as a whole."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.output = folder / "out"
        self.log = folder / "log.txt"
        scratch = folder / f"scratch-{time.monotonic_ns()}"
        arguments = [str(part) for part in (digits_model(), folder / INBOX, self.output, scratch, json.dumps(settings))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _STREAM, *arguments],
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 of everything: the driver, the JVM, the Python workers."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        for member in family:
            if member.is_running():
                member.kill()
        psutil.wait_procs(family, timeout=PATIENCE)
        self.process.wait(PATIENCE)

    def end(self) -> None:
        """Kill whatever is left; for the end of a test."""
        if self.process.poll() is None:
            self.kill()


def paths_in(output: Path) -> Counter[str]:
    """How often each image is in the output."""
    tables = [pq.read_table(path, columns=["path"]) for path in sorted(output.glob("batch-*.parquet"))]
    return Counter(path for table in tables for path in table["path"].to_pylist())


def wait_for(job: Job, count: int, limit: float = PATIENCE) -> None:
    """Wait until ``count`` images are in the output."""
    deadline = time.monotonic() + limit
    while sum(paths_in(job.output).values()) < count:
        assert job.process.poll() is None, job.log.read_text()
        assert time.monotonic() < deadline, job.log.read_text()
        time.sleep(0.05)


def arrive(paths: list[Path], folder: Path) -> None:
    """Images appear in the watched folder, whole, by a rename."""
    for path in paths:
        path.rename(folder / INBOX / path.name)


def test_each_image_exactly_once_across_two_kills(tmp_path: Path) -> None:
    made = write_images(tmp_path / "made", 500)
    made[77].write_bytes(made[77].read_bytes()[:50])
    (tmp_path / INBOX).mkdir()
    chance = random.Random(4)
    # Photos keep their dates when they are moved: some of these are two years old.
    for path in made[220:350]:
        os.utime(path, (time.time() - 63e6, time.time() - 63e6))
    arrivals = [made[:120], made[120:290], made[290:]]
    # Where in the run each kill falls: so many images after the arrival, and then a moment.
    for number, arrived in enumerate(arrivals[:2]):
        half = len(arrived) // 2
        arrive(arrived[:half], tmp_path)
        job = Job(tmp_path, batch_images=40, interval=0.1)
        try:
            before = sum(paths_in(job.output).values())
            wait_for(job, before + 1)
            arrive(arrived[half:], tmp_path)
            wait_for(job, before + chance.randint(26, 90))
            time.sleep(chance.uniform(0, 0.4))  # the moment is meant to be random, not awaited
            job.kill()
        finally:
            job.end()
        assert max(paths_in(job.output).values()) == 1, number
    arrive(arrivals[2], tmp_path)
    job = Job(tmp_path, once=True, batch_images=100)
    try:
        assert job.process.wait(PATIENCE) == 0, job.log.read_text()
    finally:
        job.end()
    expected = {str(tmp_path / INBOX / path.name) for path in made}
    assert paths_in(job.output) == Counter(expected)
    told = json.loads((job.output / "_summary.json").read_text())
    assert (told["images"], told["rejected"]) == (500, 1)
    assert "images/s, lag" in job.log.read_text()
