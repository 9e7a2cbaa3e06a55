"""Preparation against the machine: ``python -m benchmarks.prepare [--images 2000 8000] [--rounds 5]``.

Every figure is a ratio of two sides that run in turns in this one process; the table shows medians. The pictures are
made here from a fixed seed, with the spectrum of photographs.
"""

import argparse
import functools
import io
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import psutil
from PIL import Image

from benchmarks import measure
from distributed_cls.config import ClusterConfig, DataConfig
from distributed_cls.contracts import tfrecord
from distributed_cls.dataset import prepare, work
from distributed_cls.images.decode import Prepared, Spec, prepare_image

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

    from pyspark.sql import SparkSession

SIZE = 224
CORES = 2
ENCODING, QUALITY = "jpeg", 95


def photo(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Amplitudes that fall as 1/frequency, and the slight softness of a lens: uint8 [H, W, 3]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    layers = []
    for _ in range(3):
        layer = np.fft.irfft2(np.exp(2j * np.pi * random.random(frequency.shape)) / frequency**1.1, s=(height, width))
        layers.append(layer / layer.std())
    mixed = np.stack([0.8 * layers[0] + 0.4 * layer for layer in layers], axis=-1)
    softened: np.ndarray = cv2.GaussianBlur(np.clip(mixed * 45 + 120, 0, 255).astype(np.uint8), (0, 0), 1.0)
    return softened


def jpegs(count: int, width: int, height: int, seed: int = 0) -> Iterator[bytes]:
    """Different photo-like JPEGs of quality 85: windows of a few large ones."""
    random = np.random.default_rng(seed)
    large = [photo(random, width * 3 // 2, height * 3 // 2) for _ in range(min(count, 24))]
    seen: set[tuple[int, int, int]] = set()
    for number in range(count):
        x, y = (int(random.integers(0, edge // 2)) for edge in (width, height))
        place = (number % len(large), x, y)
        if place in seen:
            continue
        seen.add(place)
        window = large[number % len(large)][y : y + height, x : x + width]
        yield cv2.imencode(".jpg", window, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def ours(data: bytes) -> np.ndarray:
    """The project's kernel: bytes to the square."""
    outcome = prepare_image(data, Spec(SIZE))
    assert isinstance(outcome, Prepared)
    return outcome.rgb


def pillow(data: bytes) -> np.ndarray:
    """The usual way: full decode, antialiased bilinear."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def in_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round, one side after the other, after a first round that does not count."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        measure.tell(f"round {number + 1} of {rounds}: {', '.join(sides)}")
        for name, side in sides.items():
            seconds[name].append(side())
    return seconds


def ratio(seconds: dict[str, list[float]], fast: str, slow: str) -> float:
    """Median over the rounds of how many times faster ``fast`` was than ``slow``."""
    return statistics.median(b / a for a, b in zip(seconds[fast], seconds[slow], strict=True))


def kernel_rows(rounds: int) -> Iterator[tuple[str, float, str]]:
    """The kernel against Pillow, one thread."""
    for width, height, count, goal in ((500, 375, 120, 2.0), (3000, 2000, 6, 3.0)):
        measure.tell(f"preparation, the kernel at {width}×{height}")
        images = list(jpegs(count, width, height))

        def run(function: Callable[[bytes], np.ndarray], images: list[bytes] = images) -> float:
            start = time.process_time()
            for data in images:
                function(data)
            return time.process_time() - start

        sides = {"ours": functools.partial(run, ours), "pillow": functools.partial(run, pillow)}
        seconds = in_turns(sides, rounds)
        errors = [np.mean((ours(data).astype(float) - pillow(data)) ** 2) for data in images]
        quality = min(10 * np.log10(255**2 / error) for error in errors)
        yield (
            f"kernel ÷ Pillow, {width}×{height}",
            ratio(seconds, "ours", "pillow"),
            f"≥ {goal} · PSNR {quality:.1f} dB",
        )


def bare_task(folder: str, number: int, paths: list[str]) -> int:
    """What a task of the stage must do at least: read, prepare, encode, write one shard."""
    cv2.setNumThreads(0)
    with Path(folder, f"{number}.tfrecord").open("wb") as stream:
        for path in paths:
            image = work.encode(ours(Path(path).read_bytes()), ENCODING, QUALITY)
            stream.write(tfrecord.frame(tfrecord.example(image, 0, path.encode())))
    return len(paths)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder for one measurement."""
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Clock:
    """Wall and CPU seconds of this process and its children (Python workers, pool, Java) over a block."""

    def __init__(self) -> None:
        self.cpu: list[float] = []

    def measure(self, block: Callable[[], None]) -> float:
        """Run ``block``; the wall seconds. Its CPU seconds go to ``cpu``."""
        before, start = self._cpu(), time.perf_counter()
        block()
        wall = time.perf_counter() - start
        self.cpu.append(self._cpu() - before)
        return wall

    @staticmethod
    def _cpu() -> float:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


def stage_rows(
    spark: "SparkSession", pool: "Pool", count: int, rounds: int, goal: float
) -> Iterator[tuple[str, float, str]]:
    """The whole Spark stage against the bare pool, wall and CPU."""
    measure.tell(f"preparation, the stage with {count:,} images")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, data in enumerate(jpegs(count, 500, 375)):
            target = root / "in" / str(number % 10) / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        paths = sorted(str(path) for path in (root / "in").rglob("*.jpg"))
        count = len(paths)

        def bare() -> None:
            with scratch(root) as out:
                tasks = [(str(out), n, paths[n::CORES]) for n in range(CORES)]
                assert sum(pool.starmap(bare_task, tasks, chunksize=1)) == count

        def stage(near_duplicates: int | None) -> None:
            config = DataConfig(
                name="bench", source="folder", path=str(root / "in"), image_size=SIZE, encoding=ENCODING,
                jpeg_quality=QUALITY, near_duplicates=near_duplicates,
            )  # fmt: skip
            with scratch(root) as out:
                prepare.prepare(lambda: spark, config, str(out))

        clocks = {name: Clock() for name in ("pool", "stage", "stage with near duplicates")}
        blocks: tuple[Callable[[], None], ...] = (bare, functools.partial(stage, None), functools.partial(stage, 12))
        sides = {
            name: functools.partial(clock.measure, block)
            for (name, clock), block in zip(clocks.items(), blocks, strict=True)
        }
        wall = in_turns(sides, rounds)
        cpu = {name: clock.cpu[1:] for name, clock in clocks.items()}
        for name, least in (("stage", goal), ("stage with near duplicates", 0.85)):
            speed = count / statistics.median(wall[name])
            yield f"{name} ÷ pool, CPU, {count:,} images", ratio(cpu, name, "pool"), f"≥ {least}"
            yield f"{name} ÷ pool, wall, {count:,} images", ratio(wall, name, "pool"), f"{speed:,.0f} images/s"


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[2000, 8000], help="sizes of the stage's data sets")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(0)
    from distributed_cls.spark.session import Session  # here: the processes of the pool import this module too

    rows = list(kernel_rows(options.rounds))
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(CORES) as pool:
        session = Session(ClusterConfig(master=f"local[{CORES}]", workers=1), Path(folder))
        try:
            for count in options.images:
                rows += stage_rows(session.spark, pool, count, options.rounds, 0.90 if count < 8000 else 0.95)
        finally:
            session.stop()
    measure.show(
        f"Preparation, medians of {options.rounds} rounds",
        ["what", "ratio", "goal, and more"],
        [(name, f"{value:.2f}", more) for name, value, more in rows],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
