"""The story of each job, top to bottom."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_cls import feature_cache, job_checks, phases, weights_file
from distributed_cls.config import plugins
from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.manifest import PAGE_FILE, Dataset
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.contracts.run_folder import full_disk_named
from distributed_cls.contracts.summary import DatasetEntry, Summary
from distributed_cls.run import progress
from distributed_cls.run.progress import Display
from distributed_cls.run.recorder import Recorder
from distributed_cls.run_context import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew import Crew
    from distributed_cls.barrier.supervisor import Outcome

log = logging.getLogger(__name__)

# The driver never imports TensorFlow, and a job imports only the rooms it uses: imports of rooms are inside the jobs.


def perform(run: Run) -> Summary:
    """Do ``run.config.job``; its summary, which is also written to summary.json."""
    job_checks.check_run_folder(run.config, run.folder)
    job_checks.check_paths(run.config)
    showing = contextlib.nullcontext(run.display) if run.display else progress.showing(run.config.job.console)
    with full_disk_named(run.folder), showing as display, run.status.following(), run.tracking.following():
        summary = _JOBS[run.config.job.name](run, display)
        run.note_total()
        summaries.write(run.folder, summary)
        run.tracking.result(summary)
    return summary


def show(summary: Summary, folder: Path) -> None:
    """Print how a run ended: accuracy, weak classes, where the time went, where the report is, what comes next."""
    if summary.test is None and summary.train is None:
        return
    from distributed_cls.contracts import evaluation_result
    from distributed_cls.evaluation.summary_panel import next_commands, summary_panel

    splits = evaluation_result.read(folder, "Run the job again.") if summary.test is not None else {}
    progress.console.print(summary_panel(summary, splits, folder))
    for command in next_commands(folder, evaluated=summary.test is not None):
        progress.console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def _pipeline(run: Run, display: Display) -> Summary:
    """Prepare, train, evaluate, export and report."""
    job_checks.bring_back_checkpoints(run.config, run.folder)
    job_checks.check_resume(run.config, run.folder)
    start_weights = weights_file.provide(run.config, run.folder)
    with _crew(run) as crew:
        spark, dataset = _start_and_prepare(run, crew, display)
        task = _task(run, dataset, (Step.TRAIN, Step.EVALUATE, Step.EXPORT), start_weights=start_weights)
        summary = _run_ranks(run, spark, crew, dataset, display, task)
    return _report(run, summary, display)


def _prepare_only(run: Run, display: Display) -> Summary:
    dataset = _prepare(run, lambda: run.start_preparation(display), display)
    return _with(run.summary(), dataset=DatasetEntry.of(dataset))


def _train_only(run: Run, display: Display) -> Summary:
    job_checks.bring_back_checkpoints(run.config, run.folder)
    job_checks.check_resume(run.config, run.folder)
    start_weights = weights_file.provide(run.config, run.folder)
    with _crew(run) as crew:
        spark, dataset = _start_and_prepare(run, crew, display)
        task = _task(run, dataset, (Step.TRAIN,), start_weights=start_weights)
        return _run_ranks(run, spark, crew, dataset, display, task)


def _evaluate(run: Run, display: Display) -> Summary:
    """Evaluate the model of an earlier run on the val and test splits of its data, or of others, and report."""
    from distributed_cls.run import earlier_run

    assert run.config.model_dir is not None, "the configuration asks for it when job=evaluate"
    earlier = earlier_run.find(run.config.model_dir)
    run.config = earlier_run.evaluated_config(run.config, earlier, run.given)
    job_checks.check_paths(run.config)
    with _crew(run) as crew:
        spark, dataset = _start_and_prepare(run, crew, display)
        earlier_run.check_data(earlier, dataset)
        confidence = earlier_run.confidence_of(earlier, run.given)
        task = _task(run, dataset, (Step.EVALUATE,), checkpoint=str(earlier.checkpoint), confidence=confidence)
        summary = _run_ranks(run, spark, crew, dataset, display, task)
    return _report(run, summary, display)


def _suspects(run: Run, display: Display) -> Summary:
    """Train a model for each fold of the train split, and list the labels that the others doubt."""
    from distributed_cls import suspects_job

    start_weights = weights_file.provide(run.config, run.folder)
    with _crew(run) as crew:
        spark, dataset = _start_and_prepare(run, crew, display)
        job_checks.check_enough_images(run.config, dataset)
        suspects_job.perform(run, spark, crew, dataset, display, start_weights)
    workers = run.config.cluster.workers
    return _with(run.summary(), model=run.config.model.name, dataset=DatasetEntry.of(dataset), workers=workers)


def _verify(run: Run, display: Display) -> Summary:
    """Read the prepared data sets of this name again, all of every one."""
    from distributed_cls.dataset import verify

    found = verify.find(run.config.dataset_root, run.config.data.name)
    display.begin("shards")
    for path in found:
        verified = verify.verify(path, lambda done, total: display.count("shards", done, total))
        log.info("OK: %s, %s records in %d shards verified", path, f"{verified.records:,}", verified.shards)
    return _with(run.summary(), verified=found)


def _predict(run: Run, display: Display) -> Summary:
    """Classify a folder, a table or Parquet files of images."""
    from distributed_cls.inference import batch

    return _with(run.summary(), prediction=batch.predict(lambda: run.start_spark(display), run.config, display))


def _stream(run: Run, display: Display) -> Summary:
    """Classify images as they arrive."""
    from distributed_cls.inference import stream

    return _with(run.summary(), prediction=stream.run(lambda: run.start_spark(display), run.config, display))


def _serve(run: Run, display: Display) -> Summary:
    """Answer on a web page and by HTTP; no Spark."""
    from distributed_cls import serving

    serving.serve(run.config)
    return run.summary()


def _doctor(run: Run, display: Display) -> Summary:
    """Check the cluster with a short barrier stage; refuse when a training could not run on it."""
    from distributed_cls.barrier import doctor
    from distributed_cls.contracts import doctor_report

    if run.config.job.json:
        progress.console.stderr = True  # standard output is for the JSON alone
    spark = run.start_spark(display)
    display.begin("examining the cluster")
    with run.timed("doctor"):
        found = doctor.check(spark, run.config, run.folder)
    display.end()
    if run.config.job.json:
        print(doctor_report.dumps(found), end="")
    else:
        progress.console.print(doctor.table(found))
    doctor.refuse_faults(found)
    return run.summary()


# ── stages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(run: Run, get_spark: Callable[[], "SparkSession"], display: Display) -> Dataset:
    from distributed_cls.dataset import class_table, prepare

    display.begin("preparing the images")
    with run.timed("prepare"):
        dataset = prepare.prepare(
            get_spark,
            run.config.data,
            run.config.dataset_root,
            progress=lambda done, total: display.count("images", done, total),
        )
    display.end()
    if not dataset.reused or run.config.job.name == "prepare":
        progress.console.print(class_table.table(dataset))
        for what, where in (("data set", dataset.path), ("report", f"{dataset.path}/{PAGE_FILE}")):
            progress.console.print(f"{what}  {where}", highlight=False, markup=False, soft_wrap=True)
    return dataset


def _start_and_prepare(run: Run, crew: "Crew", display: Display) -> tuple["SparkSession", Dataset]:
    """Start Spark, and prepare for the ranks of ``crew``, which gives its slots to the preparation when it has work."""
    spark = run.start_cluster(display, idle=crew.alone)
    with crew.turn():
        return spark, _prepare(run, lambda: crew.with_slots(spark), display)


@contextlib.contextmanager
def _crew(run: Run) -> Iterator["Crew"]:
    """The agents of this job's ranks: what of them can start before Spark starts now. A sweep keeps them."""
    from distributed_cls.barrier.crew_pool import CrewHolder

    crews = run.crews or CrewHolder()
    try:
        crew = crews.crew(run.config.cluster, plugins.load())
        crew.warm_up()
        yield crew
        run.on_free()
    finally:
        if run.crews is None:
            crews.close()


def _task(run: Run, dataset: Dataset, steps: Sequence[Step], **given: Any) -> RankTask:
    """What the ranks of ``run`` do with ``dataset``. given: further fields of the task."""
    folder, fingerprint = str(run.folder.absolute()), dataset.manifest.fingerprint
    return RankTask(run.config, dataset.path, fingerprint, folder, tuple(steps), plugins=plugins.load(), **given)


def _run_ranks(
    run: Run,
    spark: "SparkSession",
    crew: "Crew",
    dataset: Dataset,
    display: Display,
    task: RankTask,
) -> Summary:
    """Do ``task`` on the ranks; the summary so far. Writes logs, metrics, checkpoints, the model, evaluation.json."""
    job_checks.check_enough_images(run.config, dataset)
    if Step.TRAIN in task.steps:
        job_checks.check_resumed_data(run.folder, dataset)
        with crew.turn():
            stored = feature_cache.provide(run, dataset, task.start_weights, lambda: crew.with_slots(spark), display)
        task = dataclasses.replace(task, features=stored)
    run.tracking.begin()
    performed = phases.perform(run, spark, crew, task, display)
    outcome = performed.outcome
    run.seconds |= performed.seconds
    summary = _with(
        run.summary(),
        model=run.config.model.name,
        dataset=DatasetEntry.of(dataset),
        workers=outcome.workers,
        attempts=outcome.attempts,
        failed_attempts=outcome.failed_attempts,
        slow_ranks=[slow for recorder in performed.recorders for slow in recorder.slow_ranks()],
        train=outcome.result.train,
    )
    return _evaluated(run, summary, dataset, outcome, performed.recorders[-1]) if outcome.result.counts else summary


def _evaluated(run: Run, summary: Summary, dataset: Dataset, outcome: "Outcome", recorder: Recorder) -> Summary:
    """The summary with the metrics of each split; writes evaluation.json and predictions.parquet."""
    from distributed_cls.contracts import evaluation_result
    from distributed_cls.contracts.evaluation_result import EvaluatedSplit
    from distributed_cls.evaluation import metrics, predictions

    counts = outcome.result.counts
    stored = predictions.stored_images(dataset)
    predictions.write(run.folder, dataset, stored, list(counts), outcome.workers)
    splits = {
        split: EvaluatedSplit(
            counted.counts, predictions.with_paths(stored, recorder.mistakes(split)), counted.probabilities
        )
        for split, counted in counts.items()
    }
    evaluation_result.write(run.folder, splits)
    entries = {split: metrics.split_entry(found.counts, found.probabilities) for split, found in splits.items()}
    return _with(summary, confidence=outcome.result.confidence, **entries)


def _report(run: Run, summary: Summary, display: Display) -> Summary:
    from distributed_cls.evaluation.report import Report

    display.begin("writing the report")
    summaries.write(run.folder, summary)  # a report that fails must not cost the run its summary
    with run.timed("report"):
        report = Report(run.folder, summary)
        report.draw()
    # Figures take seconds, the page itself does not: the time that it shows is that of the whole run.
    run.note_total()
    report.write()
    display.end()
    return summary


def _with(summary: Summary, **changes: object) -> Summary:
    return dataclasses.replace(summary, **changes)  # type: ignore[arg-type]


_JOBS: dict[str, Callable[[Run, Display], Summary]] = {
    "pipeline": _pipeline,
    "prepare": _prepare_only,
    "verify": _verify,
    "train": _train_only,
    "evaluate": _evaluate,
    "predict": _predict,
    "stream": _stream,
    "serve": _serve,
    "suspects": _suspects,
    "doctor": _doctor,
}
