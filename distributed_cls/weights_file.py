"""The file with the weights that a training begins from: found or downloaded once, by the driver, into the run folder.

The ranks read it there, as they do checkpoints: executors need no internet, and no path of the driver's machine.
"""

import hashlib
import importlib.metadata
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.errors import UserError
from distributed_cls.models.backbone import ApplicationSettings
from distributed_cls.models.pretrained import IMAGENET, PretrainedSettings
from distributed_cls.text import first_line

log = logging.getLogger(__name__)

FOLDER = "weights"
_NAMES = {"keras": "start.keras", "weights": "start.weights.h5", "legacy": "start.h5"}  # Keras goes by the name
_SILENCE_SECONDS = 60  # of a download before it is given up
_RUN_REMEDY = "Set model.weights to the folder of a run of job=pipeline, or to a weights file."
_downloaded: dict[str, Path] = {}  # of this process, by URL: the trials of a sweep share one download


def provide(config: Config, folder: Path) -> str | None:
    """The file in the run ``folder`` that a training of ``config`` begins from; None: random weights.

    Raises UserError when ``model.weights`` names nothing that can be read, or no weights.
    """
    model = config.model
    if not isinstance(model, PretrainedSettings) or model.weights is None:
        return None
    target = folder.absolute() / FOLDER
    for name in _NAMES.values():
        if (target / name).exists():  # an earlier start in this folder
            return str(target / name)
    source = _source(model, config.data.image_size)
    with storage.replacing_folder(target) as temporary:
        checksum = _copy(source, temporary / "download")
        name = _NAMES[_kind(temporary / "download", source)]
        (temporary / "download").rename(temporary / name)
    final = target / name
    log.info("model.weights=%s: %s, %s bytes, SHA-256 %s", model.weights, source, f"{final.stat().st_size:,}", checksum)
    if storage.is_url(source):
        _downloaded[source] = final
    return str(final)


def _source(model: PretrainedSettings, image_size: int) -> str:
    """The path or URL that ``model.weights`` stands for."""
    weights = str(model.weights)
    if isinstance(model, ApplicationSettings) and weights == IMAGENET:
        return str(_imagenet(model, image_size))
    if storage.is_url(weights):
        return weights
    path = storage.local(storage.absolute(weights))
    if path.is_dir():
        exported = [path / "model" / "model.keras", path / "model.keras"]
        path = next((each for each in exported if each.is_file()), exported[0])
        if not path.is_file():
            raise UserError(
                f"Expected a run with an exported model in model.weights={weights}. Received: no {path}. {_RUN_REMEDY}"
            )
    if not path.is_file():
        raise UserError(
            f"Expected model.weights to be null, {'imagenet, ' if model.has_imagenet else ''}a run folder, or the path "
            f"or URL of a weights file. Received: model.weights={weights}, and there is no {path}. {_RUN_REMEDY}"
        )
    return str(path)


def _copy(source: str, target: Path) -> str:
    """Copy a file or URL to ``target``; its SHA-256."""
    digest = hashlib.sha256()
    before = _downloaded.get(source)
    source = str(before) if before is not None and before.exists() else source
    try:
        with target.open("wb") as stream:
            for block in _web_blocks(source) if source.startswith(("http://", "https://")) else storage.blocks(source):
                digest.update(block)
                stream.write(block)
    except OSError as error:  # of the network, too
        if error.errno in storage.FULL:
            raise
        reason = getattr(error, "reason", None) or error.strerror or first_line(error)
        raise UserError(
            f"Expected to read the file of model.weights. Received: {source}: {reason}. "
            "Check the address and the network, or set model.weights to a file of this machine."
        ) from error
    return digest.hexdigest()


def _web_blocks(url: str) -> Iterator[bytes]:
    """The content of a web address in blocks of 1 MiB. Raises OSError, also when it ends too early."""
    with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as response:
        expected, received = response.headers["Content-Length"], 0
        while block := response.read(2**20):
            received += len(block)
            yield block
    if expected is not None and received != int(expected):
        raise urllib.error.URLError(f"{received:,} of {int(expected):,} bytes, then the connection ended")


def _kind(file: Path, source: str) -> str:
    """Which of Keras's formats a file has."""
    import h5py  # few runs need it

    with file.open("rb") as stream:
        first = stream.read(8)
    if first.startswith(b"PK"):
        return "keras"
    if not h5py.is_hdf5(file):
        raise UserError(
            f"Expected model.weights to be a file that Keras wrote (.keras, .weights.h5 or .h5). Received: {source}, "
            f"which begins with {first!r}. {_RUN_REMEDY}"
        )
    with h5py.File(file, "r") as stored:
        return "legacy" if "layer_names" in stored.attrs or "model_weights" in stored else "weights"


def _imagenet(model: ApplicationSettings, image_size: int) -> Path:
    """The file with the ImageNet weights of ``model``'s network: downloaded by Keras, kept beside its downloads."""
    network, alpha = model.application
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models", "distributed_cls")
    version = importlib.metadata.version("keras")
    width = "" if alpha is None else f"-{alpha:g}"
    file = home / f"{network}{width}-{image_size}-keras{version}.weights.h5"
    if not file.exists():
        _download_imagenet(network, image_size, alpha, file)
    return file


def _download_imagenet(network: str, image_size: int, alpha: float | None, file: Path) -> None:
    from distributed_cls.barrier.rank_process import environment

    log.info("Downloading the ImageNet weights of %s", network)
    program = "from distributed_cls.models import applications; applications.main()"
    arguments = [network, str(image_size), "" if alpha is None else str(alpha), str(file)]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment(1), capture_output=True, text=True, check=False
    )
    if ended.returncode == 2:
        raise UserError(ended.stdout.strip().splitlines()[-1])
    if ended.returncode:
        log.error("%s", ended.stderr.strip())
        raise RuntimeError(f"the process that downloads the ImageNet weights ended with code {ended.returncode}")
