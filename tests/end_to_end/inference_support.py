"""What the tests of the inference jobs share: a small trained model, real images, a running server."""

import contextlib
import functools
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
from sklearn.datasets import load_digits

from tests.patience import PATIENCE

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's real handwritten digits: uint8 [1797, 32, 32, 3], and their labels, int [1797]."""
    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)
    large = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_NEAREST) for image in small]
    return np.repeat(np.stack(large)[..., None], 3, axis=-1), digits.target


def encode(image: np.ndarray, extension: str = ".png") -> bytes:
    """A uint8 RGB image as the bytes of a file."""
    return cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_images(folder: Path, count: int, by_class: bool = False) -> list[Path]:
    """Write the first ``count`` digits as PNG and JPEG files by turns."""
    images, labels = digit_images()
    paths = []
    for index in range(count):
        extension = (".png", ".jpg")[index % 2]
        parent = folder / str(labels[index % len(labels)]) if by_class else folder
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / f"digit-{index:04d}{extension}"
        path.write_bytes(encode(images[index % len(images)], extension))
        paths.append(path)
    return paths


_EXPORT = """
import sys
import tempfile
from distributed_cls.models.tensorflow_import import import_tensorflow
import_tensorflow()
import keras
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(2)
from tests.end_to_end.inference_support import digit_images
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig
from distributed_cls.models.building import build
from distributed_cls.training.model_card import Card
from distributed_cls.training.saved_model import export_model

kind, folder, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.utils.set_random_seed(0)
config = CnnConfig(filters=[16, 32], units=64) if kind == "cnn" else DenseConfig(units=[64])
model = build(config, 32, 10)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
images, labels = digit_images()
model.fit(images[:1500], labels[:1500], batch_size=64, epochs=epochs, verbose=0)
loss, accuracy = model.evaluate(images[1500:], labels[1500:], verbose=0)
test = {"examples": 297, "accuracy": float(accuracy), "loss": float(loss)}
card = Card(kind, "digits", "test", metrics={"test": test})
export_model(model, folder, classes=[str(digit) for digit in range(10)], image_size=32, card=card)
"""


def export_digits(folder: Path, kind: str = "cnn", epochs: int = 3) -> Path:
    """Train ``kind`` on the digits in a process of its own and export it to ``folder``."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-c", _EXPORT, kind, str(folder), str(epochs)], env=environment, check=True, timeout=PATIENCE
    )
    return folder


@dataclass
class Server:
    """A running serve job."""

    url: str
    process: subprocess.Popen[str]

    def stop(self, signal_number: int = signal.SIGTERM, limit: float = PATIENCE) -> int:
        """Send the signal and wait for the end: the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(limit)

    def resident_megabytes(self) -> float:
        """Memory of the process, 10**6 bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


_SERVE = """
import json
import sys
import tempfile
from distributed_cls.config import Config, JobConfig
from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.errors import UserError
from distributed_cls.serving import serve

settings = {"port": 0, "threads": 1, "timeout": float(sys.argv[3]), **json.loads(sys.argv[2])}
try:
    serve(Config(job=JobConfig(name="serve"), model_dir=sys.argv[1], serve=ServeConfig(**settings)))
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
assert not {"pyspark", "py4j"} & set(sys.modules), "serving must not need Spark"
"""


def start_server(model_dir: Path, settings: str = "{}") -> subprocess.Popen[str]:
    """Start the serve job of ``model_dir``; ``settings`` is JSON of ServeConfig's fields."""
    return subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(model_dir), settings, str(PATIENCE)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def serving(model_dir: Path, settings: str = "{}") -> Iterator[Server]:
    """A server on a free port, until the end of the block."""
    process = start_server(model_dir, settings)
    try:
        yield Server(address_of(process), process)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def address_of(process: subprocess.Popen[str], limit: float = PATIENCE) -> str:
    """Where a starting server says that it listens, without the trailing slash."""
    assert process.stdout is not None
    deadline = time.monotonic() + limit
    seen = ""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1)[0]:
            line = process.stdout.readline()
            seen += line
            if match := re.search(r"at (http://\S+?)/ ", line):
                return match[1]
            if not line:
                break
    raise AssertionError(f"The server did not start:\n{seen}")


_SHARED: list[tempfile.TemporaryDirectory[str]] = []  # removed when the test process ends


@functools.cache
def digits_model(kind: str = "cnn", epochs: int = 6) -> Path:
    """A run folder with an exported model, trained once per test process."""
    folder = tempfile.TemporaryDirectory(prefix="exported-")
    _SHARED.append(folder)
    export_digits(Path(folder.name) / "model", kind, epochs)
    return Path(folder.name)


def upload(client: httpx.Client, *files: tuple[str, bytes], path: str = "/classify") -> httpx.Response:
    """Send named files as one form."""
    return client.post(path, files=[("file", file) for file in files])


def digit_png(index: int = 1600) -> bytes:
    """One handwritten digit as a PNG file."""
    return encode(digit_images()[0][index])
