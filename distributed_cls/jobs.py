"""The story of each job, top to bottom."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_cls import storage
from distributed_cls.config import Config, from_dict, to_dict
from distributed_cls.errors import UserError
from distributed_cls.run import progress
from distributed_cls.run.recorder import Recorder
from distributed_cls.storage import read_json, write_json

log = logging.getLogger(__name__)

# The driver never imports TensorFlow, and a job imports only the rooms it uses: imports of rooms are inside the jobs.


@dataclass
class Run:
    """One run: its settings, its folder, and how to get a Spark session when it is needed."""

    config: Config
    folder: Path
    get_spark: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)  # what the launcher knows: command, versions
    seconds: dict[str, float] = field(default_factory=dict)  # per stage

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of a block, without those of stages that it contains, to ``seconds``."""
        began, before = time.monotonic(), sum(self.seconds.values())
        yield
        inner = sum(self.seconds.values()) - before
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began - inner, 3)

    def spark(self, display: progress.Display) -> Any:
        display.begin("Spark starts")
        with self.timed("spark"):
            session = self.get_spark()
        display.end()
        return session

    def ready(self, display: progress.Display) -> Any:
        """A session on which the ranks can run; refused before any image is touched."""
        from distributed_cls.spark import preflight

        session = self.spark(display)
        display.begin("slots")
        preflight.check(session, self.config.cluster)
        return session


def perform(run: Run) -> dict[str, Any]:
    """Do ``run.config.job``; its summary, which is also written to class_table.json."""
    began = time.monotonic()
    job = run.config.job.name
    _refuse_unwritable(run.folder)
    _refuse_useless_paths(run.config)
    with progress.showing(run.config.job.console) as display:
        summary = _JOBS[job](run, display)
    run.seconds["total"] = round(run.seconds.get("launch", 0.0) + time.monotonic() - began, 3)
    summary = {"job": job, **summary, "seconds": run.seconds, **run.facts, "config": to_dict(run.config)}
    write_json(run.folder / "summary.json", summary)
    return summary


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print how a run ended: accuracy, weak classes, where the time went, where the report is."""
    if "test" in summary:
        from distributed_cls.evaluation.summary_panel import summary_table

        counted = read_json(folder / "evaluation.json", "the counts of the evaluation", "Run the job again.")
        progress.console.print(summary_table(summary, counted, folder))


def _pipeline(run: Run, display: progress.Display) -> dict[str, Any]:
    """Prepare, train, evaluate, export and report."""
    spark = run.ready(display)
    dataset = _prepare(run, lambda: spark, display)
    summary = _train(run, spark, dataset, display, work=["train", "evaluate", "export"])
    return _report(run, summary, display)


def _prepare_only(run: Run, display: progress.Display) -> dict[str, Any]:
    dataset = _prepare(run, lambda: run.spark(display), display)
    return {"dataset": _dataset_entry(dataset)}


def _train_only(run: Run, display: progress.Display) -> dict[str, Any]:
    spark = run.ready(display)
    return _train(run, spark, _prepare(run, lambda: spark, display), display, work=["train"])


def _evaluate(run: Run, display: progress.Display) -> dict[str, Any]:
    """Evaluate the model of an earlier run on the val and test splits of the chosen data, and report."""
    assert run.config.model_dir is not None
    trained = Path(run.config.model_dir).absolute()
    earlier = read_json(trained / "summary.json", "the run folder of a training", "Set model_dir to one.")
    checkpoint = trained / "checkpoints" / "best.npz"
    if not checkpoint.is_file():
        raise UserError(
            f"Expected a checkpoint at {checkpoint}. Received: no such file. Set model_dir to a trained run."
        )
    run.config = dataclasses.replace(run.config, model=from_dict(earlier["config"]).model)
    spark = run.ready(display)
    dataset = _prepare(run, lambda: spark, display)
    if list(dataset.manifest.classes) != list(earlier["dataset"]["classes"]):
        raise UserError(
            f"Expected the classes that the model was trained on: {', '.join(earlier['dataset']['classes'])}. "
            f"Received: {', '.join(dataset.manifest.classes)}. Choose data with these classes."
        )
    summary = _train(run, spark, dataset, display, work=["evaluate"], checkpoint=str(checkpoint))
    return _report(run, summary, display)


def _verify(run: Run, display: progress.Display) -> dict[str, Any]:
    """Read the prepared data sets of this name again, all of every one."""
    from distributed_cls.dataset import verify

    found = verify.find(run.config.dataset_root, run.config.data.name)
    display.begin("shards")
    for path in found:
        verified = verify.verify(path, lambda done, total: display.count("shards", done, total))
        log.info("Whole: %s, %d records in %d shards", path, verified.records, verified.shards)
    return {"verified": found}


def _predict(run: Run, display: progress.Display) -> dict[str, Any]:
    """Classify a folder, a table or Parquet files of images."""
    from distributed_cls.inference import batch

    return batch.predict(lambda: run.spark(display), run.config)


def _stream(run: Run, display: progress.Display) -> dict[str, Any]:
    """Classify images as they arrive."""
    from distributed_cls.inference import stream

    return stream.run(lambda: run.spark(display), run.config)


def _serve(run: Run, display: progress.Display) -> dict[str, Any]:
    """Answer on a web page and by HTTP; no Spark."""
    from distributed_cls import serving

    serving.serve(run.config)
    return {}


# ── stages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse_unwritable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"Expected a run folder that can be written. Received: {folder} ({error.strerror}). "
            "Set hydra.run.dir to another folder."
        ) from None


def _refuse_useless_paths(config: Config) -> None:
    """Say that there are no images, or no place for prepared ones, before Spark has started, which takes seconds."""
    if config.job.name not in ("pipeline", "prepare", "train", "evaluate"):
        return
    if config.data.path:
        storage.check_readable(storage.absolute(config.data.path), "data.path")
    root = storage.absolute(config.dataset_root)
    # One that is there may be for reading only: it is enough for what is prepared already.
    if not storage.is_url(root) and not storage.exists(root):
        storage.check_writable(root, "dataset_root")


def _prepare(run: Run, get_spark: Callable[[], Any], display: progress.Display) -> Any:
    from distributed_cls.dataset import class_table, dataset_page, prepare

    display.begin("images")
    with run.timed("prepare"):
        dataset = prepare.prepare(
            get_spark,
            run.config.data,
            run.config.dataset_root,
            run.config.cluster.workers,
            progress=lambda done, total: display.count("images", done, total),
        )
    display.end()
    if not dataset.reused or run.config.job.name == "prepare":
        progress.console.print(class_table.table(dataset))
        for what, where in (("data set", dataset.path), ("its page", f"{dataset.path}/{dataset_page.FILE}")):
            progress.console.print(f"{what}  {where}", highlight=False, markup=False, soft_wrap=True)
    return dataset


def _dataset_entry(dataset: Any) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "path": dataset.path,
        "reused": dataset.reused,
        "classes": list(manifest.classes),
        "counts": manifest.counts,
        "rejected": manifest.rejected,
        "rejected_by_reason": manifest.rejected_by_reason,
        "rejects": manifest.rejects,
    }


def _train(
    run: Run, spark: Any, dataset: Any, display: progress.Display, work: list[str], checkpoint: str | None = None
) -> dict[str, Any]:
    """Run ``work`` on the ranks; the summary so far. Writes logs, metrics, checkpoints, the model, evaluation.json."""
    from distributed_cls.barrier.supervisor import run_ranks
    from distributed_cls.contracts import codec
    from distributed_cls.contracts.events import Event
    from distributed_cls.contracts.rank_task import RankTask, Step

    config, fingerprint = run.config, dataset.manifest.fingerprint
    task = RankTask(
        config,
        dataset.path,
        fingerprint,
        str(run.folder.absolute()),
        tuple(Step(name) for name in work),
        checkpoint,
    )
    recorder, view = Recorder(run.folder), progress.TrainingView(display)

    def listen(event: Event) -> None:
        recorder(event)
        view(event)

    try:
        outcome = run_ranks(spark, task, config.cluster, listen)
    finally:
        recorder.close()
        display.end()
    run.seconds |= recorder.stage_seconds()
    summary = {
        "model": config.model.name,
        "dataset": _dataset_entry(dataset),
        "workers": config.cluster.workers,
        "attempts": outcome.attempts,
    }
    if outcome.result.train:
        summary["train"] = codec.to_plain(outcome.result.train)
    if outcome.result.counts:
        from distributed_cls.evaluation.metrics import summary_entry

        counted = {}
        for split, counts in outcome.result.counts.items():
            plain = counts.to_plain()
            plain["top5_correct"] = plain["top_k_correct"]
            counted[split] = {**plain, "split": split, "mistakes": codec.to_plain(recorder.mistakes(split))}
        write_json(run.folder / "evaluation.json", counted)
        summary |= {split: summary_entry(counted[split]) for split in ("val", "test")}
    return summary


def _report(run: Run, summary: dict[str, Any], display: progress.Display) -> dict[str, Any]:
    from distributed_cls.evaluation.report import write_report

    display.begin("report")
    # The report reads the summary like everything else in the folder; it is written again with the total time.
    stand_in = {"job": run.config.job.name, **summary, "seconds": run.seconds, **run.facts}
    write_json(run.folder / "summary.json", {**stand_in, "config": to_dict(run.config)})
    with run.timed("report"):
        write_report(run.folder)
    display.end()
    return summary


_JOBS: dict[str, Callable[[Run, progress.Display], dict[str, Any]]] = {
    "pipeline": _pipeline,
    "prepare": _prepare_only,
    "verify": _verify,
    "train": _train_only,
    "evaluate": _evaluate,
    "predict": _predict,
    "stream": _stream,
    "serve": _serve,
}
