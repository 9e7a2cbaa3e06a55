"""How long training takes on these machines, from a few steps and a validation: for ``train.time_budget``."""

import time

import numpy as np
import tensorflow as tf

from distributed_cls.contracts.events import Phase
from distributed_cls.contracts.rank_task import TrainPace
from distributed_cls.training.context import RankContext
from distributed_cls.training.evaluator import Evaluator
from distributed_cls.training.loop import train_iterator
from distributed_cls.training.losses import class_weights
from distributed_cls.training.sharding import train_steps
from distributed_cls.training.train_graph import TrainGraph

_SECONDS = 3.0  # of training that are enough to tell its pace
_STEPS_PER_CALL = 5


def measure(ctx: RankContext) -> TrainPace:
    """Train for some steps, validate, and forget both: the process and its weights end with this task.

    Every rank takes the same calls, and all have the same result: the means over the ranks.
    """
    replicated, config = ctx.replicated, ctx.config.train
    steps = train_steps([ctx.epoch_records], config.batch_size)
    ctx.reporter.phase(Phase.INPUT)
    iterator, validation = train_iterator(ctx, steps), Evaluator(ctx, "val")
    ctx.kept_alive += [iterator, validation]
    ctx.reporter.phase(Phase.TRACE)
    graph = TrainGraph(replicated, config, class_weights(ctx))
    graph.train_call(iterator, tf.constant(1)).numpy()
    validation.run()
    ctx.reporter.phase(Phase.TRAIN)
    began, taken, seconds = time.perf_counter(), 0, 0.0
    left = steps * config.epochs - 1
    # The first calls fill the input's buffers and are timed all the same: a training has them too.
    while left and seconds < _SECONDS:
        number = min(_STEPS_PER_CALL, left)
        *_, computing = graph.train_call(iterator, tf.constant(number)).numpy()
        taken, left = taken + number, left - number
        ctx.reporter.at_step(taken, number * ctx.lanes.batch_size, computing)
        seconds = float(replicated.sum_over_ranks(np.array([time.perf_counter() - began]))[0]) / ctx.world_size
    validation_began = time.perf_counter()
    validation.run()
    now = time.perf_counter()
    own = np.array([now - validation_began, now - began])
    of_validation, measured = (replicated.sum_over_ranks(own) / ctx.world_size).tolist()
    # A train split of a single step has nothing else to go by than its validation.
    return TrainPace(seconds / taken if taken else of_validation, of_validation, steps, measured)
