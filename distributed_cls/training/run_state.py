"""The state of a run, to and from its checkpoint (``contracts/checkpoint.py``): every variable, and where it stands."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Arrays, DamagedCheckpoint, Position
from distributed_cls.contracts.run_folder import FullDisk
from distributed_cls.errors import UserError
from distributed_cls.training.checkpoint_copies import CheckpointCopies

_LONGEST_FULL_SECONDS = 600.0  # that a run goes on while its disk is full
_RETRY_SECONDS = 1.0  # between two attempts to write the last checkpoint on a full disk


class Saver:
    """Writes the checkpoints of a run beside its training: the state is copied at once, a thread writes the file.

    While the disk is full training goes on, and each further checkpoint is tried, for ten minutes.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        note: Callable[[str], None],
        copies: CheckpointCopies | None = None,
        frozen: Sequence[keras.Variable] = (),
    ) -> None:
        """``note`` is given a line for the person who watches, from a thread. frozen: variables that are written once,
        since nothing changes them as long as this object lives."""
        self._folder, self._keep, self._note, self._copies = folder, keep, note, copies
        self._frozen = {id(variable) for variable in frozen}
        self._frozen_arrays: Arrays = {}  # until they are written
        self._frozen_file: str | None = None  # once it is written
        self._unwritten_best: tuple[Arrays, Position] | None = None
        self._unwritten: tuple[Arrays, Position] | None = None  # the latest state, lost to a full disk
        self._full: tuple[FullDisk, float, set[int]] | None = None  # the latest error, since when, the steps lost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(
        self,
        variables: Sequence[keras.Variable],
        position: Position,
        *,
        best: Sequence[keras.Variable] = (),
        statistics: np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Begin to write ``last.npz``, and ``best.npz`` where it is the best; waits for the one before.

        best: what ``best.npz`` has in the place of the first of ``variables``; empty: it is not the best.
        statistics: see ``checkpoint.STATISTICS``. Raises what writing the one before raised.
        """
        self.wait()
        if self._frozen_file is None and not self._frozen_arrays:
            self._frozen_arrays = arrays_of(variables, lambda variable: not self._changes(variable))
        arrays = arrays_of(variables, self._changes)
        if statistics is not None:
            arrays[checkpoint.STATISTICS] = statistics
        better = arrays_of(best, self._changes) if best else None
        self._writing = self._thread.submit(self._write, arrays, position, better)

    def _changes(self, variable: keras.Variable) -> bool:
        return id(variable) not in self._frozen

    def _write(self, arrays: Arrays, position: Position, best: Arrays | None) -> None:
        if best is not None:
            self._unwritten_best = arrays | best, position
        try:
            if self._frozen_file is None:
                frozen = self._frozen_arrays
                self._frozen_file = checkpoint.write_frozen(self._folder, frozen) if frozen else ""
                self._frozen_arrays = {}
            if self._unwritten_best:  # first: no latest state speaks of a best one that is not there
                checkpoint.write(self._folder / checkpoint.BEST, *self._unwritten_best, frozen=self._frozen_file)
                self._unwritten_best = None
            checkpoint.write(self._folder / checkpoint.LAST, arrays, position, self._keep, self._frozen_file)
        except FullDisk as error:
            self._unwritten = arrays, position
            self._note_full(error, position.step)
        else:
            self._unwritten = None
            if self._full:
                lost = len(self._full[2] - {position.step})
                which = {0: "none is lost", 1: "the one before it is lost"}.get(lost, f"{lost} before it are lost")
                self._note(f"The checkpoint at step {position.step:,} is written; {which} to the full disk")
            self._full = None
            if self._copies:
                self._copies.begin()

    def _note_full(self, error: FullDisk, step: int) -> None:
        now = time.monotonic()
        _, since, lost = self._full or (error, now, set[int]())
        self._full = error, since, {*lost, step}
        if now - since > _LONGEST_FULL_SECONDS:
            raise error
        if not lost:
            self._note(
                f"The checkpoint at step {step:,} could not be written: the disk of {self._folder} is full. Training "
                f"goes on and tries again, for {_LONGEST_FULL_SECONDS / 60:.0f} minutes: free some space"
            )

    def wait(self) -> None:
        """Return when nothing is being written. Raises what writing raised; FullDisk after ten minutes only."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def finish(self, waiting: Callable[[], None] | None = None) -> None:
        """Return when the latest state is safe, and copied. Raises FullDisk when there was no room for it.

        waiting: called before each further attempt on a full disk, which goes on for the rest of the ten minutes.
        None: there is no time for another attempt.
        """
        self.wait()
        while self._full and self._unwritten:
            if waiting is None:
                raise self._full[0]
            waiting()
            time.sleep(_RETRY_SECONDS)
            self._write(*self._unwritten, None)
        if self._copies:
            self._copies.finish()


def arrays_of(
    variables: Sequence[keras.Variable], wanted: Callable[[keras.Variable], bool] = lambda variable: True
) -> Arrays:
    """A copy of the ``wanted`` ones of ``variables`` (their values on this rank), as a checkpoint names them."""
    # What TensorFlow gives may be the variable's own memory, which the next step changes.
    return {_key(index, variable): np.array(variable) for index, variable in enumerate(variables) if wanted(variable)}


def load(path: Path, variables: Sequence[keras.Variable]) -> Position:
    """Set ``variables`` to the values in ``path``; return where that run stood.

    ``variables`` may be the first part of what was saved (a model without its optimizer).
    Raises UserError when the file is damaged, or was written for another model.
    """
    arrays, position = checkpoint.read(path)
    assign(path, arrays, variables)
    return position


def load_newest(
    folder: Path,
    variables: Sequence[keras.Variable],
    passed_over: list[str],
    second_phase: bool = False,
    or_none: bool = False,
) -> tuple[Path, Position, np.ndarray[Any, Any] | None] | None:
    """Load the newest checkpoint of ``folder`` that is whole: its path, its position, the ranks' statistics.

    None when there is none of this phase; with ``or_none`` also when all are damaged, for which otherwise UserError is
    raised. What was wrong with those ``passed_over`` is put there. Raises UserError when the one that is whole was
    written for another model.
    """
    candidates = checkpoint.kept(folder)
    for path in candidates:
        try:
            arrays, position = checkpoint.read(path)
        except DamagedCheckpoint as error:
            if path == candidates[-1] and not or_none:
                raise
            passed_over.append(str(error))
            continue
        if second_phase and position.first_phase is None:
            return None
        assign(path, arrays, variables)
        return path, position, arrays.get(checkpoint.STATISTICS)
    return None


def assign(path: Path | str, arrays: Arrays, variables: Sequence[keras.Variable]) -> None:
    """Set ``variables`` to ``arrays``, which come from ``path``. Raises UserError when they are of another model."""
    for index, variable in enumerate(variables):
        key = _key(index, variable)
        value = arrays.get(key)
        if value is None or value.shape != tuple(variable.shape):
            found = "no such variable" if value is None else f"shape {value.shape}"
            raise UserError(
                f"Expected {path} to hold {key} of shape {tuple(variable.shape)}. Received: {found}. "
                "Use the model settings that this checkpoint was written with, or an empty run folder."
            )
    for index, variable in enumerate(variables):
        variable.assign(arrays[_key(index, variable)])


def _key(index: int, variable: keras.Variable) -> str:
    return f"{index:05d}:{variable.name}"  # not the path: it counts the layers that a process has made before
