"""``train.time_budget``: how many epochs fit is measured by the ranks and decided here, once, before they train.

A run with a budget is then the run with that ``train.epochs``, bit for bit. One that goes on keeps the number that it
began with.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.config import Config
from distributed_cls.contracts import checkpoint
from distributed_cls.contracts.rank_task import RankTask, Step, TrainPace

if TYPE_CHECKING:
    from distributed_cls.barrier.supervisor import Outcome

log = logging.getLogger(__name__)

_RESERVE = 0.03  # of what is left, for checkpoints and for steps that are slower than those that were timed


def fitted(task: RankTask, perform: "Callable[[RankTask], Outcome]") -> "tuple[RankTask, Outcome | None]":
    """``task`` with the epochs that fit its budget, and what came of measuring (None: nothing had to be measured).

    perform: does a task on the ranks.
    """
    budget = task.config.train.time_budget
    if budget is None or Step.TRAIN not in task.steps:
        return task, None
    found = checkpoint.newest_position(Path(task.run_folder) / "checkpoints")
    if found is not None:
        epochs = found[1].settings.get("train.epochs")
        return (_with_epochs(task, epochs) if isinstance(epochs, int) else task), None
    began = time.monotonic()
    outcome = perform(dataclasses.replace(task, steps=(Step.MEASURE,)))
    spent, pace = time.monotonic() - began, outcome.result.pace
    assert pace is not None, "a task that measures has its result"
    epochs = fitting_epochs(budget, spent, pace)
    log.info(
        "train.time_budget=%g: %d epoch%s of about %.3g s (%d steps of %.3g s, a validation of %.3g s), after %.3g s "
        "of measuring and before about %.3g s in which the ranks start again",
        *(budget, epochs, "" if epochs == 1 else "s", pace.steps * pace.step + pace.validation, pace.steps),
        *(pace.step, pace.validation, spent, spent - pace.measured),
    )
    return _with_epochs(task, epochs), outcome


def fitting_epochs(budget: float, spent: float, pace: TrainPace) -> int:
    """Whole epochs that fit into ``budget`` seconds of which ``spent`` went into measuring: one at least.

    The ranks start once more to train, which takes what measuring took beside its timed steps.
    """
    left = (budget - spent - (spent - pace.measured)) * (1 - _RESERVE)
    return max(1, int(left / (pace.steps * pace.step + pace.validation)))


def _with_epochs(task: RankTask, epochs: int) -> RankTask:
    return dataclasses.replace(task, config=with_epochs(task.config, epochs))


def with_epochs(config: Config, epochs: int) -> Config:
    """``config`` for a training of ``epochs``."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))
