"""Event files for TensorBoard, written without TensorFlow: its messages, framed as our TFRecord files are."""

import dataclasses
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Scalars

from distributed_cls.contracts import tfrecord
from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.status import State
from distributed_cls.contracts.summary import Summary

FOLDER = "tensorboard"


class TensorBoardTracker:
    """One event file for each split in ``<run folder>/tensorboard/<split>``, which TensorBoard draws over each other.

    The step of a point is the training step. A resumed run adds a file, which TensorBoard joins with the ones before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        # As TensorFlow names them; the process keeps two that begin in the same second apart.
        self._file = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._step = 0

    def metrics(self, split: str, epoch: int, step: int, values: Metrics) -> None:
        self._step = step
        scalars = {name.replace("_", " "): value for name, value in dataclasses.asdict(values).items()}
        self._write(split, step, {**scalars, "epoch": float(epoch)})

    def result(self, summary: Summary) -> None:
        for split, entry in (("val", summary.val), ("test", summary.test)):
            if entry is not None:
                best = {"accuracy": entry.accuracy, "loss": entry.loss, "macro F1": entry.macro_f1}
                self._write(split, self._step, {f"kept model/{name}": value for name, value in best.items()})

    def end(self, state: State) -> None:
        """Every point is on the disk already."""

    def _write(self, split: str, step: int, scalars: dict[str, float | None]) -> None:
        values = [Scalars.Value(tag=tag, simple_value=value) for tag, value in scalars.items() if value is not None]
        path = self._folder / split / self._file
        events = [Event(wall_time=time.time(), step=step, summary=Scalars(value=values))]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
        with path.open("ab") as stream:
            stream.write(b"".join(tfrecord.frame(event.SerializeToString()) for event in events))
