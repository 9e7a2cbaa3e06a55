"""The story of the predict job: a folder, Parquet files or a table of images become a Parquet table of predictions.

    <output>/part-00000.parquet …   path, label, confidence, top, error, truth
    <output>/_plan.parquet, _job.json, _summary.json

Each part is written by one task, under a temporary name and renamed. A job that is started again finds the plan and
the parts that are there, and does the others.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import predict_output, predicted
from distributed_cls.contracts.export import load_export
from distributed_cls.contracts.predict_output import InputSlice, PredictJob
from distributed_cls.contracts.predicted import PredictionSummary
from distributed_cls.errors import UserError
from distributed_cls.inference import prediction_summary, slices
from distributed_cls.inference.broadcast import ship_to_executors
from distributed_cls.inference.bulk import PredictTask, classify
from distributed_cls.inference.output_errors import output_named
from distributed_cls.run import progress
from distributed_cls.run.progress import Display
from distributed_cls.spark import stage
from distributed_cls.text import first_line

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TABLE = "table:"
_POLL_SECONDS = 2.0

NumberedPart = tuple[int, list[InputSlice]]


def part_name(number: int) -> str:
    """The file name of a part."""
    return f"part-{number:05d}.parquet"


def predict_parts(parts: Iterable[NumberedPart], task: PredictTask, output: str) -> Iterator[int]:
    """Classify parts and write them (on an executor): the number of rows of each."""
    for number, entries in parts:
        rows = list(classify(slices.items(entries, task.export.classes), task))
        storage.write_bytes(storage.join(output, part_name(number)), predict_output.to_parquet(rows))
        yield len(rows)


def _stage_table(spark: "SparkSession", name: str, output: str) -> str:
    """Copy a catalog table into the output as Parquet, whatever its format: a copy has parts that can be resumed."""
    staged = storage.join(output, "_input")
    if not storage.exists(storage.join(staged, "_SUCCESS")):
        from pyspark.errors import AnalysisException  # lazily: only the Spark jobs need it

        try:
            spark.table(name).write.mode("overwrite").parquet(storage.for_spark(staged))
        except AnalysisException as error:
            raise UserError(
                f"Expected data.path=table:<name> to name a table. Received: {name}: {first_line(error)}. "
                "Set data.path to a table of the catalog, or to a folder of Parquet files."
            ) from error
    return staged


def _source(path: str) -> str:
    """data.path as it means the same wherever the job is started."""
    return path if path.startswith(_TABLE) else storage.absolute(storage.plain(path))


def _make_plan(
    get_spark: Callable[[], "SparkSession"],
    config: Config,
    output: str,
    job: PredictJob,
    classes: list[str],
    display: Display,
) -> list[list[InputSlice]]:
    source = job.source
    if source.startswith(_TABLE):
        storage.check_writable(output, "output")
        source = _stage_table(get_spark(), source.removeprefix(_TABLE), output)
    try:
        entries = slices.find_slices(source)  # before Spark: it refuses what holds no images
    except OSError as error:
        raise UserError(
            f"Expected to read data.path={config.data.path}. Received: {error.filename or source} "
            f"({storage.reason_of(error)}). Grant access to it, or set data.path to another place."
        ) from error
    if unread := slices.unread_labels(entries, classes):
        display.line(
            f"the labels of {unread} are numbers, and nothing says which class has which number: the results have no "
            "truth and no accuracy"
        )
    parts = slices.cut(entries, config.predict, get_spark().sparkContext.defaultParallelism)
    slices.save(output, parts, job)
    return parts


def predict(get_spark: Callable[[], "SparkSession"], config: Config, display: Display) -> PredictionSummary:
    """Classify the images of ``config.data.path`` into ``config.output``; return (and keep) the summary.

    ``get_spark`` is called when what can be refused without Spark has been looked at, and only when there is work.

    Raises UserError when the model, the images or the output are not what they should be.
    """
    assert config.model_dir and config.data.path and config.output, "the configuration asks for them when job=predict"
    export = load_export(config.model_dir)
    output = storage.absolute(storage.plain(config.output))
    top_k = min(config.predict.top_k, len(export.classes))
    source = _source(config.data.path)
    slices.refuse_inside(source, output)
    if not source.startswith(_TABLE):
        storage.check_readable(source, "data.path")
    get_spark = functools.cache(get_spark)
    job = PredictJob(export.version, source, top_k)
    summary = PredictionSummary("predict", export.name, export.version, source, output)
    with output_named(output):
        parts = slices.load(output, job) or _make_plan(get_spark, config, output, job, export.classes, display)
        todo = _todo(output, parts, display)
        if todo:
            spark, began = get_spark(), time.monotonic()
            shipped = ship_to_executors(spark, export)
            task = PredictTask(shipped, config.predict.batch_size, top_k, config.predict.threads)
            rows = _run(spark, output, todo, task, display)
            seconds = time.monotonic() - began
            summary = dataclasses.replace(summary, new_files=len(todo), new_images=rows, seconds=seconds)
        summary = prediction_summary.counted(summary, [part_name(number) for number in range(len(parts))])
        predicted.write(output, summary)
    prediction_summary.show(summary, progress.console)
    return summary


def _todo(output: str, parts: list[list[InputSlice]], display: Display) -> list[NumberedPart]:
    """The parts that no earlier start has written."""
    written = set(storage.names(output))
    todo = [(number, entries) for number, entries in enumerate(parts) if part_name(number) not in written]
    if len(todo) < len(parts):
        rest = "doing the others" if todo else "nothing is left to do (images that came later need another output)"
        display.line(f"{len(parts) - len(todo)} of {len(parts)} parts are there already; {rest}")
    return todo


def _run(spark: "SparkSession", output: str, todo: list[NumberedPart], task: PredictTask, display: Display) -> int:
    """Do the parts, showing how far they are: the number of rows."""
    sizes = {part_name(number): sum(entry.images for entry in entries) for number, entries in todo}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(output, sizes, ended, display), name="progress", daemon=True)
    display.begin("classifying the images", sum(sizes.values()))
    watcher.start()
    try:
        predict = functools.partial(predict_parts, task=task, output=output)
        return sum(stage.run(spark, "classify images", predict, todo))
    finally:
        ended.set()
        watcher.join(_POLL_SECONDS)
        display.end()


def _watch(output: str, sizes: dict[str, int], ended: threading.Event, display: Display) -> None:
    """Show how many images are done, by the parts that are there, until the job ended."""
    while not ended.wait(_POLL_SECONDS):
        display.count(
            "images", sum(sizes[name] for name in storage.names(output) if name in sizes), sum(sizes.values())
        )
