"""The latest states of a rank, in memory that outlives its process: what the next attempt goes on from.

A checkpoint costs a disk and is written every half minute; a state in memory costs a copy. The memory belongs to the
rank's agent, which hands it to every process that it starts for the same order. The two places are written in turns, so
that a process which is killed while it writes leaves the state before.
"""

import os
from collections.abc import Sequence

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Arrays, Position


class LatestState:
    """Two places in memory, by their file descriptors."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = descriptors
        self._next = 0
        self.found = self._read_all()  # what an earlier process has left, by step

    def _read_all(self) -> dict[int, tuple[Arrays, Position]]:
        found: dict[int, tuple[Arrays, Position]] = {}
        steps = [-1] * len(self._descriptors)  # of each place; -1: nothing, or half-written
        for place, descriptor in enumerate(self._descriptors):
            if not os.fstat(descriptor).st_size:
                continue
            try:
                with os.fdopen(os.dup(descriptor), "rb") as stream:
                    stream.seek(0)
                    arrays, position = checkpoint.load(stream)
            except Exception:  # half-written: its zip file raises whatever its bytes ask for
                continue
            found[position.step] = arrays, position
            steps[place] = position.step
        self._next = steps.index(min(steps))
        return found

    def save(self, arrays: Arrays, position: Position) -> None:
        """Keep a state in the place of the older one."""
        descriptor = self._descriptors[self._next]
        os.ftruncate(descriptor, 0)
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.seek(0)
            checkpoint.dump(stream, arrays, position)
        self._next = (self._next + 1) % len(self._descriptors)
