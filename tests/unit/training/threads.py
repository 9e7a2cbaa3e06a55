"""Threads in the place of ranks, where only their sums matter."""

import threading

import numpy as np

from tests.patience import PATIENCE


class SumOfThreads:
    """``ReplicatedModel.sum_over_ranks`` between threads: every rank gives its part and gets the whole."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._barrier = threading.Barrier(world_size, timeout=PATIENCE)
        self._parts: list[np.ndarray] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        self._barrier.wait()
        self._parts.append(np.array(values, dtype=float))
        self._barrier.wait()
        whole = np.sum(self._parts, axis=0)
        if self._barrier.wait() == 0:
            self._parts.clear()
        self._barrier.wait()
        return whole

    def gather(self, values: np.ndarray, rank: int, world_size: int) -> np.ndarray:
        """``ReplicatedModel.gather``."""
        rows = np.zeros((world_size, len(values)))
        rows[rank] = values
        return self(rows)
