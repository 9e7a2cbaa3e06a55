"""Exact evaluation of a split on all ranks together: every example once, sums over ranks, never averages of averages.

Counts travel to the driver with the rank's result and the most confident mistakes as an event; what was predicted for
each image goes through the run folder (``contracts/rank_predictions.py``).
"""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.contracts import rank_predictions
from distributed_cls.contracts.counts import TOP_K, Counts
from distributed_cls.contracts.evaluation_counts import EvaluationCounts, ProbabilityCounts
from distributed_cls.contracts.events import MistakesFound, Phase
from distributed_cls.contracts.rank_predictions import RankPredictions
from distributed_cls.training.context import RankContext
from distributed_cls.training.input import evaluation_batches
from distributed_cls.training.outcomes import Predictions, encode_mistakes
from distributed_cls.training.pair_order import ordered_pairs
from distributed_cls.training.sharding import evaluation_steps
from distributed_cls.training.steps_per_call import StepsPerCall


class Evaluator:
    """Evaluates one split, as often as it is asked to."""

    def __init__(self, ctx: RankContext, split: str, keep_logits: bool = False) -> None:
        """``keep_logits``: of every class, which training has no use for."""
        self._ctx, self._split, self._keep_logits = ctx, split, keep_logits
        # What the replicas have in training, the mean of it where their lanes differ.
        replica_batch = -(-ctx.config.train.batch_size // ctx.replicated.replicas)
        rank_batch = replica_batch * ctx.replicated.local_replicas
        self._steps = evaluation_steps(ctx.records(split), ctx.world_size, rank_batch)
        self._batches = ctx.replicated.distribute(
            evaluation_batches(
                ctx.sources[split],
                batch=replica_batch,
                steps=self._steps * ctx.replicated.local_replicas,
                cache_megabytes=ctx.config.train.cache_megabytes,
                threads=ctx.threads,
            )
        )
        self.evaluate_call = tf.function(self._evaluate_call)
        self.predictions: Predictions | None = None

    def run(self) -> Counts:
        """The counts of the split over all ranks; this rank's predictions stay in ``predictions``."""
        ctx = self._ctx
        self.predictions = Predictions(self._columns())
        own = self.predictions.counts(len(ctx.manifest.classes))
        counts = Counts.from_vector(ctx.replicated.sum_over_ranks(own.to_vector()))
        expected = sum(ctx.records(self._split))
        assert counts.examples == expected, f"{self._split}: {counts.examples} examples of {expected} counted"
        return counts

    def _columns(self) -> tuple[NDArray[Any], ...]:
        """Every result of this rank, each [steps, rank batch, …]: in several calls, each of which reports progress."""
        size, done, parts = StepsPerCall(self._ctx.config.train.steps_per_call), 0, []
        iterator = self._ctx.replicated.iterate(self._batches)
        self._ctx.kept_alive.append(iterator)  # see ``loop.train``
        while done < self._steps:
            number, began = size.next(self._steps - done), time.perf_counter()
            parts.append([column.numpy() for column in self.evaluate_call(iterator, tf.constant(number))])
            # The first call may have traced the graph; there is no collective, so a rank may use its own clock.
            if done:
                size.calibrate((time.perf_counter() - began) / number)
            done += number
            self._ctx.reporter.progress(done, self._steps)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _evaluate_call(self, iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """``steps`` batches of this rank, each result [steps, rank batch, …]: the columns of ``Predictions``."""
        kinds = [tf.int64, tf.float32, tf.int32, tf.float32, tf.float32, tf.bool]
        kinds += [tf.float32] if self._keep_logits else []
        columns = [tf.TensorArray(kind, size=steps) for kind in kinds]
        replicated = self._ctx.replicated
        for step in tf.range(steps):
            images, labels, weights = next(iterator)
            results = replicated.strategy.run(self._evaluate_step, (images, labels))
            row = [tf.concat(replicated.local_results(part), 0) for part in (labels, weights, *results)]
            columns = [column.write(step, value) for column, value in zip(columns, row, strict=True)]
        return tuple(column.stack() for column in columns)

    def _evaluate_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = tf.cast(self._ctx.replicated.model(tf.cast(images, tf.float32), training=False), tf.float32)
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        most = min(TOP_K, logits.shape[-1])
        probabilities, classes = tf.math.top_k(tf.nn.softmax(logits), most)
        results = (classes, probabilities, losses, tf.math.in_top_k(labels, logits, most))
        return (*results, logits) if self._keep_logits else results


def evaluate(ctx: RankContext) -> dict[str, EvaluationCounts]:
    """Evaluate val and test exactly: the counts of each."""
    ctx.reporter.phase(Phase.EVALUATE)
    found = {}
    for split in ("val", "test"):
        evaluator = Evaluator(ctx, split, keep_logits=True)
        counts = evaluator.run()
        assert evaluator.predictions is not None
        found[split] = EvaluationCounts(counts, _probability_counts(ctx, evaluator.predictions))
        _save_predictions(ctx, split, evaluator.predictions)
        ctx.reporter.send(MistakesFound(split=split, items=encode_mistakes(ctx.sources[split], evaluator.predictions)))
        ctx.kept_alive.append(evaluator)
    return found


def _probability_counts(ctx: RankContext, predictions: Predictions) -> ProbabilityCounts:
    """The counts of a split's probabilities over all ranks."""
    probabilities, labels = predictions.all_probabilities(), predictions.labels
    own = probabilities[np.arange(len(labels)), labels]
    every_label, every_true_probability = (
        ctx.replicated.concatenate(values.astype(np.float64), ctx.rank, ctx.world_size) for values in (labels, own)
    )
    pairs = ordered_pairs(probabilities, labels, every_label.astype(np.int64), every_true_probability)
    return ProbabilityCounts(ordered_pairs=ctx.replicated.sum_over_ranks(pairs).tolist())


def _save_predictions(ctx: RankContext, split: str, predictions: Predictions) -> None:
    ranges = [(part.shard, part.start, part.stop) for part in ctx.sources[split].ranges]
    rank_predictions.write(
        ctx.run_folder,
        RankPredictions(
            split,
            ctx.rank,
            ctx.world_size,
            ctx.manifest.fingerprint,
            np.array(ranges, np.int64).reshape(-1, 3),
            predictions.classes,
            predictions.probabilities.astype(np.float32),
        ),
    )
