"""The story of job=suspects: a model for each fold says what it thinks of labels that it has not seen.

    <run>/suspects.csv     every image of the data set, most suspicious first: data=table reads it back
    <run>/suspects.html    the most suspicious ones with their pictures
    <run>/folds/0/ …       logs, metrics.jsonl and evaluation.json of each fold's training

Each fold is trained like any other run: by the same ranks, with the same settings, and it goes on from its checkpoints
when the job is started again in the same folder.
"""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls import job_checks, phases
from distributed_cls.config import plugins
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.run.progress import Display
from distributed_cls.run_context import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew import Crew

log = logging.getLogger(__name__)


def perform(
    run: Run, spark: "SparkSession", crew: "Crew", dataset: Dataset, display: Display, start_weights: str | None
) -> None:
    """Train the folds of ``dataset`` and write what they say of its labels. Raises UserError and RunError.

    start_weights: the file that every fold's training begins from; None: random weights.
    """
    from distributed_cls.dataset import folds
    from distributed_cls.evaluation import confident_learning, predictions, suspects_page

    settings, classes = run.config.suspects, len(dataset.manifest.classes)
    folder = run.folder.absolute() / "folds"
    display.begin("dealing the train split into folds")
    with run.timed("folds"):
        parts = folds.write_folds(spark, dataset, folder, settings.folds)
    display.end()
    for part in parts:
        job_checks.check_resume(run.config, Path(part.path))
    images = predictions.stored_images(dataset)
    train = predictions.of_split(images, "train")
    probabilities = np.zeros((train.num_rows, classes), np.float32)
    for number, (part, rows) in enumerate(
        zip(parts, folds.rows_of_folds(train["key"], settings.folds), strict=True), start=1
    ):
        display.line(f"fold {number} of {settings.folds}: {len(rows):,} images to examine")
        with run.timed("train"):
            probabilities[rows] = _out_of_fold(run, spark, crew, part, display, start_weights)
    with run.timed("report"):
        labels = pc.index_in(train["truth"], pa.array(dataset.manifest.classes)).to_numpy()
        found = confident_learning.find_suspects(probabilities, labels.astype(np.int64))
        suspects_page.write(run.folder, dataset, images, found, settings.pictures)
    # The records, which the data set has as well, and what only a restart would have needed.
    for needless in (folder / "data", *folder.glob("*/checkpoints")):
        shutil.rmtree(needless)
    display.line(
        f"{int(found.suspected.sum()):,} of {train.num_rows:,} train labels are suspected to be wrong: "
        f"{run.folder / suspects_page.PAGE}"
    )


def _out_of_fold(
    run: Run, spark: "SparkSession", crew: "Crew", part: Dataset, display: Display, start_weights: str | None
) -> np.ndarray:
    """The probabilities, float32 [images, classes], of the images of the fold ``part`` in its order."""
    from distributed_cls.evaluation import predictions

    folder, fingerprint = Path(part.path), part.manifest.fingerprint
    task = RankTask(
        # The folds are no runs that anybody goes on with elsewhere.
        dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, checkpoint_dir=None)),
        part.path,
        fingerprint,
        part.path,
        (Step.TRAIN, Step.EVALUATE),
        start_weights=start_weights,
        confidence=Confidence(),
        every_class=True,
        plugins=plugins.load(),
    )
    outcome = phases.perform(run, spark, crew, task, display).outcome
    return predictions.of_every_class(folder, part.manifest, "test", outcome.workers)
