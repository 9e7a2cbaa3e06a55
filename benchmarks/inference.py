"""What using the model costs beside the bare model: batch, server throughput, latency; both sides in one run.

The model is ResNet50 with random weights, at 64 pixels for the batch job (4,000 images in bearable time) and at 224
for the server. "The loop" is a single process that reads, prepares and classifies one batch after the other with the
same exported model and two threads. Cold starts are left out on both sides: Spark, TensorFlow and the model are up.
"""

import concurrent.futures
import contextlib
import http.client
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import measure
from distributed_cls.config import ClusterConfig, Config, DataConfig, JobConfig
from distributed_cls.config.inference_sections import PredictConfig

THREADS = 2
BATCH = 32
BATCH_IMAGES = 4_000
CLIENTS = 32
_BOUNDARY = "benchmark"


def write_photos(folder: Path, count: int) -> list[Path]:
    """``count`` JPEG files of 320 x 240 pixels with the smoothness and the size (about 20 kB) of small photos."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    photos = []
    for _ in range(50):
        coarse = chance.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        grain = chance.normal(0, 6, smooth.shape)
        photo = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        photos.append(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(photos[number % len(photos)])
    return paths


_EXPORT = """
import sys
from distributed_cls.models.resnet import ResnetConfig
from distributed_cls.models.building import build
from distributed_cls.training.model_card import Card
from distributed_cls.training.saved_model import export_model
size = int(sys.argv[1])
classes = [f"class {number}" for number in range(100)]
export_model(build(ResnetConfig(), size, 100), sys.argv[2], classes=classes, image_size=size, card=Card("resnet"))
"""


def export_resnet(folder: Path, size: int) -> Path:
    """A run folder with an exported ResNet50; made in a process of its own, which takes its memory with it."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _EXPORT, str(size), str(folder / "model")]
    subprocess.run(command, env=environment, check=True, timeout=300, stderr=subprocess.DEVNULL)
    return folder


class Loop:
    """The bare side: the exported model and nothing around it."""

    def __init__(self, model_dir: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from distributed_cls.contracts.export import load_export
        from distributed_cls.predictor.classifier import Classifier, bound_threads
        from distributed_cls.predictor.image_input import prepare

        bound_threads(THREADS)
        export = load_export(str(model_dir))
        self._model = Classifier(export)
        self._model.warm_up(1, BATCH)
        self._prepare = prepare
        self._export = export

    def call(self, data: bytes) -> float:
        """Seconds of one call with one image: prepare, classify."""
        started = time.perf_counter()
        self._model.answers(self._prepare(data, self._export)[None])
        return time.perf_counter() - started

    def rate(self, paths: list[Path]) -> float:
        """Images per second over ``paths``, batch after batch."""
        started = time.perf_counter()
        for first in range(0, len(paths), BATCH):
            pixels = [self._prepare(path.read_bytes(), self._export) for path in paths[first : first + BATCH]]
            self._model.answers(np.stack(pixels))
        return len(paths) / (time.perf_counter() - started)


def batch_ratio(folder: Path) -> tuple[float, float]:
    """Images per second of the predict job on local[2], and of the loop, over the same images."""
    from distributed_cls.inference import batch
    from distributed_cls.run.progress import Unseen
    from distributed_cls.spark.session import Session

    measure.tell(f"inference, the batch job with {BATCH_IMAGES:,} images")
    model_dir = export_resnet(folder / "resnet64", 64)
    paths = write_photos(folder / "photos", BATCH_IMAGES)
    warm = write_photos(folder / "warm", 200)
    session = Session(ClusterConfig(master=f"local[{THREADS}]", workers=1), folder / "spark")

    def job(source: Path, output: str) -> float:
        config = Config(
            job=JobConfig(name="predict"),
            data=DataConfig(source="folder", path=str(source)),
            model_dir=str(model_dir),
            output=str(folder / output),
            predict=PredictConfig(batch_size=BATCH),
        )
        summary = batch.predict(lambda: spark, config, Unseen())
        return summary.new_images / summary.seconds

    try:
        spark = session.spark
        with contextlib.redirect_stdout(io.StringIO()):  # the job's own tables
            job(folder / "warm", "warm-out")
            loop = Loop(model_dir)
            loop.rate(warm)
            # The loop before and after the job: a machine that warms up or slows down does so for both.
            before = loop.rate(paths[: BATCH_IMAGES // 2])
            ours = job(folder / "photos", "out")
            after = loop.rate(paths[BATCH_IMAGES // 2 :])
    finally:
        session.stop()
    return ours, statistics.harmonic_mean([before, after])


_SERVE = """
import sys
from distributed_cls.config import Config, JobConfig
from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.serving import serve
settings = ServeConfig(port=0, threads=int(sys.argv[2]), max_batch=int(sys.argv[3]))
serve(Config(job=JobConfig(name="serve"), model_dir=sys.argv[1], serve=settings))
"""


@contextlib.contextmanager
def serving(model_dir: Path) -> Iterator[str]:
    """A server of the model with as many threads as the loop has; gives host:port."""
    command = [sys.executable, "-c", _SERVE, str(model_dir), str(THREADS), str(BATCH)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stopper = threading.Timer(600, process.kill)  # a server that does not start must not hold the benchmark up
    stopper.start()
    try:
        assert process.stdout is not None
        found = next((match[1] for line in process.stdout if (match := re.search(r"at http://(\S+?)/ ", line))), None)
        if found is None:
            raise RuntimeError("The server ended before it was ready.")
        yield found
    finally:
        stopper.cancel()
        process.terminate()
        process.communicate(timeout=60)


class Client:
    """One caller with a connection that stays open."""

    def __init__(self, address: str, data: bytes) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        self._body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()

    def call(self) -> float:
        """Seconds from asking to the answer."""
        started = time.perf_counter()
        headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        self._connection.request("POST", "/classify", self._body, headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return time.perf_counter() - started


def throughput(address: str, data: bytes, requests: int) -> float:
    """Answers per second to ``CLIENTS`` callers, each of which asks again when it is answered."""

    def work(_: int) -> None:
        client = Client(address, data)
        for _ in range(requests // CLIENTS):
            client.call()

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))  # warm: every batch size has been seen
        started = time.perf_counter()
        list(pool.map(work, range(CLIENTS)))
        return requests // CLIENTS * CLIENTS / (time.perf_counter() - started)


def tail_at(address: str, data: bytes, rate: float, seconds: float) -> float:
    """The 99th percentile of the latency, seconds, when requests arrive at random with ``rate`` per second.

    A request's time runs from when it was due: a server that falls behind cannot hide it by delaying the callers.
    """
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1 / rate, int(rate * seconds)))
    clients = threading.local()
    started = time.perf_counter() + 0.1

    def ask(due: float) -> float:
        if not hasattr(clients, "own"):
            clients.own = Client(address, data)
        time.sleep(max(0.0, started + due - time.perf_counter()))
        clients.own.call()
        return time.perf_counter() - started - due

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        return float(np.percentile(list(pool.map(ask, arrivals)), 99))


def server_figures(folder: Path, size: int, requests: int) -> dict[str, float]:
    """Throughput and latency of the server, and of the loop, with ResNet50 at ``size`` pixels."""
    measure.tell(f"inference, the server at {size} px")
    model_dir = export_resnet(folder / f"served{size}", size)
    paths = write_photos(folder / f"photos{size}", requests)
    data = paths[0].read_bytes()
    loop = Loop(model_dir)
    with serving(model_dir) as address:
        before = loop.rate(paths)
        rate = throughput(address, data, requests)
        bare_rate = statistics.harmonic_mean([before, loop.rate(paths)])
        client = Client(address, data)
        for _ in range(5):
            client.call(), loop.call(data)
        # By turns, so that both see the same machine.
        pairs = [(client.call(), loop.call(data)) for _ in range(60)]
        tail = tail_at(address, data, rate / 2, 20)
    single, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"rate": rate, "bare_rate": bare_rate, "single": single, "bare": bare, "tail": tail}


def main() -> None:
    """Measure and print the table. About four minutes on two cores."""
    with tempfile.TemporaryDirectory(prefix="benchmark-inference-") as name:
        folder = Path(name)
        large = server_figures(folder, 224, 320)
        small = server_figures(folder, 64, 1_600)
        job, loop = batch_ratio(folder)
    rows: list[tuple[str, str, str, str, str]] = [
        (f"batch job, {BATCH_IMAGES} images at 64 px", f"{job:.0f}/s", f"{loop:.0f}/s", f"{job / loop:.2f}", "≥ 0.90"),
        _throughput_row(224, large),
        _throughput_row(64, small),
        _latency_row(224, large),
        ("p99 at half load, 224 px", f"{1000 * large['tail']:.0f} ms", "", "", ""),
        ("p99 at half load, 64 px", f"{1000 * small['tail']:.0f} ms", "", "", ""),
    ]
    title = "Using the model, beside the bare model (ResNet50, 2 threads)"
    measure.show(title, ["what", "ours", "bare", "ratio", "goal"], rows)


def _throughput_row(size: int, figures: dict[str, float]) -> tuple[str, str, str, str, str]:
    rate, bare = figures["rate"], figures["bare_rate"]
    return f"server, {CLIENTS} clients, {size} px", f"{rate:.1f}/s", f"{bare:.1f}/s", f"{rate / bare:.2f}", "≥ 0.80"


def _latency_row(size: int, figures: dict[str, float]) -> tuple[str, str, str, str, str]:
    single, bare = figures["single"], figures["bare"]
    words = f"server, p50 of single requests, {size} px"
    return words, f"{1000 * single:.1f} ms", f"{1000 * bare:.1f} ms", f"{single / bare:.2f}", "≤ 1.30"


if __name__ == "__main__":
    main()
