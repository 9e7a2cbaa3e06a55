"""The checkpoint file: arrays by name and where the run stood, in one NumPy container that is whole or absent.

Arrays that stay as they are while a phase lasts (a frozen backbone) lie in a file of their own beside it, which the
checkpoints of the phase name: ``frozen-<digest>.npz``. NumPy's zip container checks each array's CRC on reading, and
opens anywhere, without TensorFlow.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import codec
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.contracts.run_folder import full_disk_named
from distributed_cls.errors import UserError

# Version 1 knew neither the settings nor typed metrics, version 2 only the ends of epochs, version 3 only one phase,
# version 4 held all arrays itself.
SCHEMA_VERSION = 5
_POSITION = "position.json"
_FROZEN = "frozen"
LAST, BEST = "last.npz", "best.npz"

STATISTICS = "rank_statistics"  # of BatchNorm on each rank, float32 [ranks, values]; absent at the end of an epoch

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

# NumPy parses an array's header with ``ast``, which in Python 3.11 fails in one thread while another one parses: a
# garbage collection in between is enough (python/cpython#106905). The file would pass for a damaged one.
_one_reads = threading.Lock()


class DamagedCheckpoint(UserError):
    """The file is no whole checkpoint; another one may be."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: at the end of an epoch, or within one."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps
    best_epoch: int = 0
    best_accuracy: float = -1.0  # on the validation split; -1 before the first validation
    best_loss: float | None = None
    dataset: str = ""  # fingerprint
    values: Metrics | None = None  # of the train split in the last epoch
    settings: dict[str, Json] = field(default_factory=dict)  # that decide what the run computes, by dotted name
    # Within an epoch, of each rank: its sum of the losses and its count of the right answers since the epoch began.
    sums: list[list[float]] = field(default_factory=list)
    # In the second phase: what the first one came to. Epochs and steps are those of the phase; a best epoch of 0 means
    # that none of it is better than the first one's.
    first_phase: TrainResult | None = None

    def is_better(self, accuracy: float, loss: float, monitor: str = "accuracy") -> bool:
        """Whether a validation beats the best so far: by ``monitor`` (accuracy, loss), by the other between equals."""
        now = (accuracy, -loss)
        best = (self.best_accuracy, -(float("inf") if self.best_loss is None else self.best_loss))
        return now > best if monitor == "accuracy" else now[::-1] > best[::-1]

    def own_sums(self, rank: int, world_size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """``rank``'s part of ``sums``, float64 [2]; with another number of ranks than then, rank 0 has all of them."""
        if len(self.sums) == world_size:
            return np.array(self.sums[rank], np.float64)
        whole: np.ndarray[Any, np.dtype[np.float64]] = np.array(self.sums, np.float64).reshape(-1, 2).sum(0)
        return whole if rank == 0 else np.zeros(2)


def settings_of(config: Config) -> dict[str, Json]:
    """The settings of a run that decide what it computes, by dotted name; its data set has a fingerprint."""
    settings: dict[str, Json] = {"cluster.workers": config.cluster.workers}
    for section, values in (("model", codec.to_plain(config.model)), ("train", codec.to_plain(config.train))):
        settings |= {f"{section}.{name}": value for name, value in values.items() if name != "steps_per_call"}
    return settings


def kept(folder: Path) -> list[Path]:
    """The checkpoints of the latest states in ``folder``, the newest first: last.npz, last-1.npz, …"""
    numbered = {
        int(path.stem.removeprefix("last-")): path for path in folder.glob("last-*.npz") if path.stem[5:].isdigit()
    }
    newest = folder / LAST
    return [*([newest] if newest.exists() else []), *(numbered[number] for number in sorted(numbered))]


def newest_position(folder: Path) -> tuple[Path, Position] | None:
    """The newest checkpoint in ``folder`` that is no damaged one, and where its run stood; None where there is none.

    Raises DamagedCheckpoint when all are damaged.
    """
    damaged: DamagedCheckpoint | None = None
    for path in kept(folder):
        try:
            return path, read_position(path)
        except DamagedCheckpoint as error:
            damaged = damaged or error
    if damaged:
        raise damaged
    return None


def _move_on(path: Path, keep: int) -> None:
    """Give the checkpoints at ``path`` and before it the next higher number, and remove those beyond ``keep``."""
    for number in range(keep - 1, 0, -1):
        before = path if number == 1 else path.with_stem(f"{path.stem}-{number - 1}")
        if before.exists():
            before.replace(path.with_stem(f"{path.stem}-{number}"))
    for old in kept(path.parent)[keep:]:
        old.unlink()


def dump(stream: IO[bytes], arrays: Mapping[str, Any], position: Position, frozen: str = "") -> None:
    """Write ``arrays`` and ``position`` as a checkpoint's bytes. frozen: the file with the other arrays, if any."""
    text = codec.dumps({"schema_version": SCHEMA_VERSION, _FROZEN: frozen, **codec.to_plain(position)})
    np.savez(stream, **arrays, **{_POSITION: np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]


def load(stream: IO[bytes]) -> tuple[Arrays, Position]:
    """What ``dump`` wrote with this release. Raises ValueError, or whatever changed bytes ask of the zip format."""
    return _written_here(stream)


def position_in(stream: IO[bytes]) -> Position:
    """Where the run of a checkpoint stood that this release wrote, from its open file; raises as ``load`` does."""
    return _written_here(stream, with_arrays=False)[1]


def _written_here(stream: IO[bytes], with_arrays: bool = True) -> tuple[Arrays, Position]:
    arrays, content = _unpack(stream, with_arrays)
    codec.take_version(content, SCHEMA_VERSION)
    del content[_FROZEN]
    return arrays, codec.from_plain(Position, content)


def frozen_in(stream: IO[bytes]) -> str:
    """The name of the file with the arrays that an open checkpoint leaves out; empty where it has all of them."""
    stream.seek(0)
    return str(_unpack(stream, with_arrays=False)[1].get(_FROZEN, ""))


def write_frozen(folder: Path, arrays: Arrays) -> str:
    """Write what the next checkpoints in ``folder`` leave out, unless it is there; the name of the file, by content.

    Raises FullDisk when there is no room.
    """
    digest = hashlib.sha256()
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode() + values.tobytes())
    path = folder / f"{_FROZEN}-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        with full_disk_named(path):
            folder.mkdir(parents=True, exist_ok=True)
            with storage.writing(path) as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
    return path.name


def write(path: Path, arrays: Mapping[str, Any], position: Position, keep: int = 1, frozen: str = "") -> None:
    """Write ``arrays`` and ``position`` to the local file ``path``, whole or not at all.

    keep: how many of the latest states stay, this one among them (``kept``). frozen: what ``write_frozen`` gave for the
    arrays that are left out. Raises FullDisk when there is no room.
    """
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.writing(path) as stream:
            dump(stream, arrays, position, frozen)
            if keep > 1:
                stream.flush()
                _move_on(path, keep)


def read(path: Path) -> tuple[Arrays, Position]:
    """The arrays, those left out among them, and the position of a checkpoint.

    Raises UserError: damaged, or of a newer version.
    """
    return _read(path, with_arrays=True)


def read_position(path: Path) -> Position:
    """Where the run of a checkpoint stood, without reading its arrays. Raises UserError as ``read`` does."""
    return _read(path, with_arrays=False)[1]


def _unpack(source: Path | IO[bytes], with_arrays: bool = True) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the position's JSON values. Raises whatever damaged bytes ask of the zip format."""
    with _one_reads, np.load(source, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files if with_arrays and name != _POSITION}
        return arrays, json.loads(stored[_POSITION].tobytes())


def _read(path: Path, with_arrays: bool) -> tuple[Arrays, Position]:
    try:
        arrays, content = _unpack(path, with_arrays)
        version, frozen = content.pop("schema_version"), content.pop(_FROZEN, "")
        if frozen and with_arrays:
            arrays |= _frozen_arrays(path.with_name(frozen))
        position = _position(content, version) if version in range(1, SCHEMA_VERSION + 1) else None
    except Exception as error:  # a damaged zip file raises whatever its changed bytes ask for
        raise DamagedCheckpoint(
            f"Expected a checkpoint at {path}. Received: {type(error).__name__}: {error}. "
            "Remove the file to start over, or restore it."
        ) from error
    if position is None:
        raise UserError(
            f"Expected a checkpoint of schema version {SCHEMA_VERSION} at {path}. Received: version {version}. "
            "Train again with this release."
        )
    return arrays, position


def _frozen_arrays(path: Path) -> Arrays:
    try:
        with _one_reads, np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except Exception as error:  # as in _read
        raise ValueError(f"{path.name}, which it needs, cannot be read ({type(error).__name__}: {error})") from error


def _position(content: dict[str, Any], version: int) -> Position:
    if version == 1:
        content["best_loss"] = None if content["best_loss"] == float("inf") else content["best_loss"]
        content["values"] = content["values"] or None
    return codec.from_plain(Position, content)
