"""Exact evaluation of a split on all ranks together.

Counts travel to the driver as numbers. What was predicted for each image goes through the run folder, a file of each
rank, which ``evaluation/predictions.py`` reads: ``predictions/<split>-<rank>.npz`` with ``ranges`` int64 [r, 3] (shard,
first record, record after the last), ``classes`` int64 and ``shares`` float32 [examples, ≤ 5], in the order of ranges.
"""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from distributed_cls.storage.local_files import writing
from distributed_cls.training import outcomes
from distributed_cls.training.context import CallSize, Rank
from distributed_cls.training.input import evaluation_batches
from distributed_cls.training.sharding import evaluation_steps


class Evaluation:
    """Counts over every example of a split exactly once, on all ranks together."""

    def __init__(self, rank: Rank, split: str) -> None:
        self._rank, self._split = rank, split
        self._steps = evaluation_steps(rank.records(split), rank.world, rank.config.train.batch_size)
        self._batches = rank.engine.distribute(
            evaluation_batches(
                rank.sources[split],
                batch=rank.batch,
                steps=self._steps * rank.engine.replicas_of_this_rank,
                cache_megabytes=rank.config.train.cache_megabytes,
                threads=rank.threads,
            )
        )
        self.outcomes: outcomes.Outcomes | None = None

    def run(self) -> dict[str, Any]:
        rank = self._rank
        self.outcomes = outcomes.Outcomes(self._columns())
        classes = len(rank.manifest.classes)
        result = outcomes.as_dict(self._split, rank.engine.sum_over_ranks(self.outcomes.counts(classes)), classes)
        expected = sum(rank.records(self._split))
        assert result["examples"] == expected, f"{self._split}: {result['examples']} examples of {expected} counted"
        return result

    def _columns(self) -> tuple[np.ndarray, ...]:
        """Every result of this rank, each [steps, rank batch]: in several calls, each a sign of progress."""
        size, done, parts = CallSize(self._rank.config.train.steps_per_call), 0, []
        iterator = iter(self._batches)
        while done < self._steps:
            number, began = size.next(self._steps - done), time.perf_counter()
            parts.append([column.numpy() for column in self._rank.engine.evaluate_call(iterator, tf.constant(number))])
            # The first call may have traced the graph; there is no collective, so a rank may use its own clock.
            if done:
                size.settle((time.perf_counter() - began) / number)
            done += number
            self._rank.events.emit("evaluated", split=self._split, done=done, steps=self._steps)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def evaluate(rank: Rank) -> dict[str, Any]:
    """Evaluate val and test exactly: the counts of each. The surest mistakes go straight to the driver."""
    rank.events.phase("evaluate")
    results = {}
    for split in ("val", "test"):
        evaluation = Evaluation(rank, split)
        results[split] = evaluation.run()
        assert evaluation.outcomes is not None
        _save_predictions(rank, split, evaluation.outcomes)
        chosen = evaluation.outcomes.surest_mistakes()
        items = outcomes.gallery(rank.sources[split], evaluation.outcomes, chosen)
        rank.events.emit("mistakes", split=split, items=items)
    return results


def _save_predictions(rank: Rank, split: str, outcomes: outcomes.Outcomes) -> None:
    target = rank.folder / "predictions" / f"{split}-{rank.rank:05d}.npz"
    target.parent.mkdir(exist_ok=True)
    ranges = [(part.shard, part.start, part.stop) for part in rank.sources[split].ranges]
    with writing(target) as stream:
        np.savez(
            stream,
            ranges=np.array(ranges, np.int64).reshape(-1, 3),
            classes=outcomes.classes,
            shares=outcomes.shares.astype(np.float32),
        )
