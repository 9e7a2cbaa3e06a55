"""Where an attempt goes on: from states in memory that the attempt before it left, or from a checkpoint."""

import dataclasses
from pathlib import Path

import numpy as np

from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.checkpoint import Position
from distributed_cls.contracts.events import Noted
from distributed_cls.errors import UserError
from distributed_cls.training import run_state
from distributed_cls.training.context import RankContext


def resume(ctx: RankContext) -> Position:
    """Continue from the newest state that every rank has, or the newest whole checkpoint; otherwise begin."""
    if ctx.is_chief:
        for leftover in ctx.checkpoints.glob(".*.tmp"):  # of an attempt that was killed while it wrote
            leftover.unlink()
    position, path = _from_checkpoint(ctx)
    step = _newest_common_state(ctx)
    if step > position.step:
        assert ctx.latest is not None
        arrays, position = ctx.latest.found[step]
        run_state.assign("the state in memory", arrays, ctx.replicated.variables)
        if ctx.is_chief:
            _note_resumed(ctx, "memory", position)
    else:
        ctx.replicated.vary_dropout(ctx.rank)  # a checkpoint has rank 0's seeds; a state in memory has the rank's own
        if position.step and ctx.is_chief:
            _note_resumed(ctx, path.name, position)
    if ctx.latest is not None:
        ctx.latest.found.clear()
    return position


def _note_resumed(ctx: RankContext, source: str, position: Position) -> None:
    ctx.reporter.send(Noted(text=f"Resumed from {source}, at step {position.step:,} in epoch {position.epoch + 1}"))


def _newest_common_state(ctx: RankContext) -> int:
    """The latest step of which every rank has its state in memory; -1 where there is none."""
    own = [] if ctx.latest is None else sorted(ctx.latest.found)[-2:]
    everyone = ctx.replicated.gather(np.array([*own, *[-1.0] * (2 - len(own))]), ctx.rank, ctx.world_size)
    common = set.intersection(*({int(step) for step in row} for row in everyone))
    return max(common, default=-1)


def _from_checkpoint(ctx: RankContext) -> tuple[Position, Path]:
    """Load the newest whole checkpoint that an earlier attempt of this run left; where it stood, and its file."""
    settings, path = ctx.settings, ctx.checkpoints / checkpoint.LAST
    position = _beginning(ctx)
    damaged: list[str] = []
    found = run_state.load_newest(
        ctx.checkpoints, ctx.replicated.variables, damaged, ctx.first_phase is not None, ctx.began_here
    )
    if found:
        path, saved, statistics = found
        # What was changed on purpose, such as more epochs, is what the next checkpoint says.
        position = dataclasses.replace(saved, settings=settings)
        if position.dataset != ctx.manifest.fingerprint:
            raise UserError(
                f"Expected {path} to come from data set {ctx.manifest.fingerprint}. Received: {position.dataset}. "
                "Choose an empty run folder."
            )
        if statistics is not None:
            same = len(statistics) == ctx.world_size
            ctx.replicated.set_statistics(statistics[ctx.rank] if same else statistics.mean(0))
    _agree_on_position(ctx, path, position)
    if not found and ctx.first_phase and ctx.is_chief:
        # From here on it is a run in its second phase, whose best model so far is that of the first one.
        ctx.saver.save(ctx.replicated.variables, position)
        ctx.saver.wait()
    if ctx.is_chief:
        for text in damaged:
            ctx.reporter.send(Noted(text=f"A damaged checkpoint is passed over. {text}"))
    return position, path


def _beginning(ctx: RankContext) -> Position:
    """The position at the beginning of a phase."""
    first = ctx.first_phase
    begun = Position(dataset=ctx.manifest.fingerprint, settings=ctx.settings, first_phase=first)
    if first is None or first.val_accuracy is None:
        return begun
    return dataclasses.replace(begun, best_accuracy=first.val_accuracy, best_loss=first.val_loss)


def _agree_on_position(ctx: RankContext, last: Path, position: Position) -> None:
    """Refuse when the ranks would go on from different checkpoints: a shared folder can show an older file to some.

    MultiWorkerMirroredStrategy adds up gradients and never compares weights, so nothing else would notice.
    """
    steps = ctx.replicated.gather(np.array([float(position.step)]), ctx.rank, ctx.world_size)[:, 0].tolist()
    if len(set(steps)) > 1:
        seen = ", ".join(f"step {int(step)} on rank {rank}" for rank, step in enumerate(steps))
        raise UserError(
            f"Expected every rank to resume from the same checkpoint. Received: {seen}, from {last}. Set hydra.run.dir "
            "to storage that shows every node the same files at once, or wait until its caches have expired."
        )
