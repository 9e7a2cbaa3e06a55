"""Exact evaluation of a split on all ranks together: every example once, sums over ranks, never averages of averages.

Counts travel to the driver with the rank's result and the most confident mistakes as an event; what was predicted for
each image goes through the run folder (``contracts/rank_predictions.py``).
"""

import dataclasses
import functools
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distributed_cls.config import Config
from distributed_cls.contracts import rank_predictions
from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.counts import TOP_K, Counts
from distributed_cls.contracts.evaluation_counts import EvaluationCounts, ProbabilityCounts
from distributed_cls.contracts.events import MistakesFound, Phase
from distributed_cls.contracts.rank_predictions import RankPredictions
from distributed_cls.models.mirror_image import with_mirror_image
from distributed_cls.training.context import RankContext
from distributed_cls.training.input import evaluation_batches
from distributed_cls.training.outcomes import Predictions, encode_mistakes
from distributed_cls.training.pair_order import ordered_pairs
from distributed_cls.training.sharding import evaluation_steps
from distributed_cls.training.steps_per_call import StepsPerCall
from distributed_cls.training.temperature import acceptance_threshold, fit_temperature


class Evaluator:
    """Evaluates one split, as often as it is asked to."""

    def __init__(self, ctx: RankContext, split: str, final: bool = False) -> None:
        """``final``: the model as it is exported, and its logits of every class, which training has no use for."""
        self._ctx, self._split, self._final = ctx, split, final
        # Mirror images have no stored features.
        on_images = final and ctx.config.evaluate.mirror
        source = ctx.pictures(split) if on_images else ctx.sources[split]
        network = ctx.replicated.model if on_images else ctx.replicated.computed
        self._model = exported_model(network, ctx.config) if final else network
        # What the replicas have in training, the mean of it where their lanes differ.
        replica_batch = -(-ctx.config.train.batch_size // ctx.replicated.replicas)
        rank_batch = replica_batch * ctx.replicated.local_replicas
        self._steps = evaluation_steps(ctx.records(split), ctx.world_size, rank_batch)
        self._batches = ctx.replicated.distribute(
            evaluation_batches(
                source,
                batch=replica_batch,
                steps=self._steps * ctx.replicated.local_replicas,
                cache_megabytes=ctx.config.train.cache_megabytes,
                threads=ctx.threads,
            ).repeat()
        )
        self.evaluate_call = tf.function(self._evaluate_call, autograph=False)
        self.predictions: Predictions | None = None

    @functools.cached_property
    def _iterator(self) -> tf.distribute.DistributedIterator:
        """One for all runs: it lives as long as the process (see ``loop.train``), and has nine threads."""
        iterator = self._ctx.replicated.iterate(self._batches)
        self._ctx.kept_alive.append(iterator)
        return iterator

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
        while done < self._steps:
            number, began = size.next(self._steps - done), time.perf_counter()
            parts.append([column.numpy() for column in self.evaluate_call(self._iterator, tf.constant(number))])
            # The first call may have traced the graph; there is no collective, so a rank may use its own clock.
            if done:
                size.calibrate((time.perf_counter() - began) / number)
            done += number
            self._ctx.reporter.progress(done, self._steps)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _evaluate_call(self, iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """``steps`` batches of this rank, each result [steps, rank batch, …]: the columns of ``Predictions``."""
        kinds = [tf.int64, tf.float32, tf.int32, tf.float32, tf.float32, tf.bool]
        kinds += [tf.float32] if self._final else []
        replicated = self._ctx.replicated

        def evaluate_batch(step: tf.Tensor, columns: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
            images, labels, weights = next(iterator)
            results = replicated.strategy.run(self._evaluate_step, (images, labels))
            row = [tf.concat(replicated.local_results(part), 0) for part in (labels, weights, *results)]
            return step + 1, [column.write(step, value) for column, value in zip(columns, row, strict=True)]

        start = (tf.constant(0), [tf.TensorArray(kind, size=steps) for kind in kinds])
        _, columns = tf.while_loop(lambda step, _: step < steps, evaluate_batch, start)
        return tuple(column.stack() for column in columns)

    def _evaluate_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = tf.cast(self._model(tf.cast(images, tf.float32), training=False), tf.float32)
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        most = min(TOP_K, logits.shape[-1])
        probabilities, classes = tf.math.top_k(tf.nn.softmax(logits), most)
        results = (classes, probabilities, losses, tf.math.in_top_k(labels, logits, most))
        return (*results, logits) if self._final else results


def exported_model(model: keras.Model, config: Config) -> keras.Model:
    """What answers in the end, of the variables of ``model``."""
    return with_mirror_image(model) if config.evaluate.mirror else model


def evaluate(
    ctx: RankContext, confidence: Confidence | None, every_class: bool = False
) -> tuple[dict[str, EvaluationCounts], Confidence]:
    """Evaluate val and test exactly: the counts of each, and the confidence that they were counted with.

    ``confidence``: of an earlier run; None: it is fitted on val. ``every_class``: the predictions that are saved hold
    the probabilities of all classes.
    """
    ctx.reporter.phase(Phase.EVALUATE)
    found: dict[str, tuple[Counts, Predictions]] = {}
    for split in ("val", "test"):
        evaluator = Evaluator(ctx, split, final=True)
        ctx.kept_alive.append(evaluator)
        counts = evaluator.run()
        assert evaluator.predictions is not None
        found[split] = counts, evaluator.predictions
    confidence = confidence or _fitted(ctx, found["val"][1])
    counted = {}
    for split, (unscaled, predictions) in found.items():
        scaled = predictions.scaled(confidence.temperature)
        counted[split] = _counted(ctx, unscaled, scaled, confidence)
        _save_predictions(ctx, split, scaled, every_class)
        ctx.reporter.send(MistakesFound(split=split, items=encode_mistakes(ctx.pictures(split), scaled)))
    return counted, confidence


def _fitted(ctx: RankContext, val: Predictions) -> Confidence:
    """Temperature and threshold as the settings want them."""
    config, temperature = ctx.config.evaluate, 1.0
    assert val.logits is not None
    if config.calibrate:
        temperature = fit_temperature(val.logits, val.labels, ctx.replicated.sum_over_ranks)
    fitted = Confidence(temperature, None, config.coverage, RejectBy(config.reject_by))
    if config.coverage is None:
        return fitted
    every = ctx.replicated.concatenate(_scores(val.scaled(temperature), fitted), ctx.rank, ctx.world_size)
    return dataclasses.replace(fitted, threshold=acceptance_threshold(every, config.coverage))


def _scores(scaled: Predictions, confidence: Confidence) -> NDArray[np.float64]:
    """What the threshold is compared with, of each of this rank's examples."""
    return confidence.score(scaled.confidence.astype(np.float64), scaled.energies())


def _counted(ctx: RankContext, unscaled: Counts, scaled: Predictions, confidence: Confidence) -> EvaluationCounts:
    """The counts of a split over all ranks. ``unscaled`` is already of all, ``scaled`` are this rank's predictions."""
    replicated, classes = ctx.replicated, len(ctx.manifest.classes)
    counts = Counts.from_vector(replicated.sum_over_ranks(scaled.counts(classes).to_vector()))
    probabilities, labels = scaled.all_probabilities(), scaled.labels
    own = probabilities[np.arange(len(labels)), labels]
    every_label, every_true_probability = (
        replicated.concatenate(values.astype(np.float64), ctx.rank, ctx.world_size) for values in (labels, own)
    )
    pairs = ordered_pairs(probabilities, labels, every_label.astype(np.int64), every_true_probability)
    accepted = np.ones(len(labels), bool)
    if confidence.threshold is not None:
        accepted = _scores(scaled, confidence) >= confidence.threshold
    right = accepted & (scaled.predicted == labels)
    *pairs_of_all, accepted_of_all, right_of_all = replicated.sum_over_ranks(
        np.array([*pairs, accepted.sum(), right.sum()], np.float64)
    ).tolist()
    return EvaluationCounts(
        counts,
        ProbabilityCounts(pairs_of_all, unscaled.loss_sum, unscaled.bins, round(accepted_of_all), round(right_of_all)),
    )


def _save_predictions(ctx: RankContext, split: str, predictions: Predictions, every_class: bool) -> None:
    classes, probabilities = predictions.classes, predictions.probabilities
    if every_class:
        whole = predictions.all_probabilities()
        classes = np.argsort(-whole, axis=1, kind="stable")
        probabilities = np.take_along_axis(whole, classes, 1)
    ranges = [(part.shard, part.start, part.stop) for part in ctx.pictures(split).ranges]  # of the images' shards
    rank_predictions.write(
        ctx.run_folder,
        RankPredictions(
            split,
            ctx.rank,
            ctx.world_size,
            ctx.manifest.fingerprint,
            np.array(ranges, np.int64).reshape(-1, 3),
            classes,
            probabilities.astype(np.float32),
        ),
    )
