"""Data sets that need no path: written out once as a folder of class folders, then read like any other."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from distributed_cls import storage
from distributed_cls.errors import UserError

BUILTIN = ("digits", "fashion_mnist")
DOWNLOAD_SECONDS = 900
_MTIME = 1_000_000_000  # one time for all files: a second copy elsewhere is the same data set


def ensure(source: str, dataset_root: str) -> str:
    """The folder of a built-in data set below ``dataset_root``, written first when it is not there."""
    folder = storage.join(dataset_root, ".sources", source)
    marker = storage.join(folder, ".complete")
    if storage.exists(marker):
        return folder
    storage.check_writable(dataset_root, "dataset_root")
    storage.make_folder(storage.join(dataset_root, ".sources"))
    scratch = Path(tempfile.mkdtemp(prefix=f".{source}-", dir=None if storage.is_url(folder) else Path(folder).parent))
    try:
        _WRITERS[source](scratch)
        (scratch / ".complete").touch()
        _publish(scratch, folder, marker)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _publish(scratch: Path, folder: str, marker: str) -> None:
    if storage.is_url(folder):
        store, inside = storage.filesystem(folder)
        files = sorted(path for path in scratch.rglob("*") if path.is_file() and path.name != ".complete")
        targets = [storage.join(inside, *path.relative_to(scratch).parts) for path in files]
        store.put([str(path) for path in files], targets)
        storage.write_bytes(marker, b"")
        return
    scratch.chmod(0o755)
    try:
        scratch.rename(folder)
    except OSError:
        if not storage.exists(marker):  # no other run was faster: what stands there is somebody else's
            raise UserError(
                f"Expected {folder} to be a folder that this program wrote. Received: {folder} without .complete. "
                "Move it away."
            ) from None


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a uint8 grey image as PNG with a fixed modification time."""
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    os.utime(path, (_MTIME, _MTIME))


def _write_digits(folder: Path) -> None:
    # scikit-learn takes a second to import, and only the first run on this data set needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 17 levels of grey
    for number, (image, label) in enumerate(zip(images, digits.target, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        write_image(folder / str(label) / f"{number:04d}.png", image)


def _write_fashion_mnist(folder: Path) -> None:
    # A child process: its TensorFlow import must not reach the driver.
    command = [sys.executable, "-m", "distributed_cls.models.fashion_mnist", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise _no_download(f"no answer within {DOWNLOAD_SECONDS} s") from None
    if child.returncode != 0:
        lines = [line for line in child.stderr.strip().splitlines() if line.strip()]
        raise _no_download(lines[-1].strip() if lines else f"exit code {child.returncode}")


def _no_download(found: str) -> UserError:
    return UserError(
        "Expected a network connection for the first use of data=fashion_mnist (Keras downloads it, 30 MB). "
        f"Received: {found}. Connect, copy the files to ~/.keras/datasets/fashion-mnist, or use data=digits."
    )


_WRITERS = {"digits": _write_digits, "fashion_mnist": _write_fashion_mnist}
