"""Between the calls of an epoch: checkpoints and states in memory when they are due, and the end when it is asked for.

What one rank decides alone would leave the others in the next collective: all decide together, once a call.
"""

import dataclasses
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distributed_cls.contracts.checkpoint import Position
from distributed_cls.training import interruption, run_state
from distributed_cls.training.context import RankContext
from distributed_cls.training.interruption import Interrupted

# A state is not taken more often than it costs this part of the time.
_MEMORY_SHARE = 0.02


class StateKeeper:
    """Keeps the state of a run, on disk (rank 0) and in memory (every rank)."""

    def __init__(self, ctx: RankContext) -> None:
        self._ctx = ctx
        self._memory_seconds = 0.0  # that the latest state took
        self.begin(0)

    def begin(self, step: int) -> None:
        """An epoch begins at ``step``: its state is safe."""
        self._saved = self._remembered = time.perf_counter()
        self.saved_step = step

    def keep(self, position: Position, sums: NDArray[np.float64]) -> None:
        """Take the state at ``position``, within an epoch, where it is due.

        sums: of this rank's losses and right answers since the epoch began, float64 [2]. Raises Interrupted, after a
        checkpoint, once any rank was asked to end.
        """
        on_disk, in_memory, stop = self._agree(position.step)
        if on_disk or stop:
            self._write(position, sums)
        if in_memory and not stop:
            self._remember(position, sums)
        if stop:
            self._end(position, stop)

    def end_when_asked(self, position: Position) -> None:
        """At the end of an epoch, whose checkpoint is written: raise Interrupted once any rank was asked to end."""
        asked = _ranks_in(self._ctx.replicated.sum_over_ranks(self._asked()))
        if asked:
            self._end(position, asked)

    def _asked(self) -> NDArray[np.float64]:
        """Float64 [ranks]: 1 at this rank's place if it was asked to end."""
        ctx = self._ctx
        asked = np.zeros(ctx.world_size)
        asked[ctx.rank] = interruption.asked()
        return asked

    def _agree(self, step: int) -> tuple[bool, bool, list[int]]:
        """Whether a checkpoint and a state in memory are due, and the ranks that were asked to end."""
        ctx, config, now = self._ctx, self._ctx.config.train, time.perf_counter()
        disk = now - self._saved >= (config.checkpoint_seconds or np.inf)
        disk = disk or step - self.saved_step >= (config.checkpoint_steps or np.inf)
        pause = max(config.snapshot_seconds or np.inf, self._memory_seconds / _MEMORY_SHARE)
        memory = ctx.latest is not None and now - self._remembered >= pause
        # Rank 0's clock decides what is due; any rank may have been asked to end.
        due = np.array([disk and ctx.is_chief, memory and ctx.is_chief], np.float64)
        agreed = ctx.replicated.sum_over_ranks(np.concatenate([due, self._asked()]))
        return bool(agreed[0]), bool(agreed[1]), _ranks_in(agreed[2:])

    def _write(self, position: Position, sums: NDArray[np.float64]) -> None:
        ctx = self._ctx
        # Within an epoch ranks differ in these; a resumed run gives each its own again.
        own = np.concatenate([sums, ctx.replicated.statistics()])
        rows = ctx.replicated.gather(own, ctx.rank, ctx.world_size)
        if ctx.is_chief:
            position = dataclasses.replace(position, sums=rows[:, :2].tolist())
            ctx.saver.save(ctx.replicated.variables, position, statistics=rows[:, 2:].astype(np.float32))
        self._saved, self.saved_step = time.perf_counter(), position.step

    def _remember(self, position: Position, sums: NDArray[np.float64]) -> None:
        assert self._ctx.latest is not None
        began = time.perf_counter()
        rows: NDArray[Any] = np.zeros((self._ctx.world_size, 2))
        rows[self._ctx.rank] = sums  # the others keep theirs
        position = dataclasses.replace(position, sums=rows.tolist())
        self._ctx.latest.save(run_state.arrays_of(self._ctx.replicated.variables), position)
        self._remembered = time.perf_counter()
        self._memory_seconds = self._remembered - began

    def _end(self, position: Position, asked: list[int]) -> None:
        if self._ctx.is_chief:
            self._ctx.saver.finish()
        self._ctx.replicated.barrier()  # whoever hears of the end from another rank may end this one at once
        ranks = f"rank{'s' if len(asked) > 1 else ''} {', '.join(map(str, asked))}"
        raise Interrupted(
            f"{ranks} of {self._ctx.world_size} had to end (SIGTERM): a checkpoint is at step {position.step:,}"
        )


def _ranks_in(asked: NDArray[np.float64]) -> list[int]:
    return [int(rank) for rank in np.flatnonzero(asked)]
