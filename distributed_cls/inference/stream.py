"""The story of the stream job: images that arrive in a folder become rows, each exactly once.

Spark's file source writes down, before a micro-batch begins, which files are in it. The rows of micro-batch n become
the one file <output>/batch-<n>.parquet, written under a temporary name and renamed. After a kill at any moment Spark
either repeats micro-batch n with the same files, and finds that its file is there already or writes it, or goes on
with n + 1. So no image is lost, and none is there twice, whoever reads the folder.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import predict_output, predicted
from distributed_cls.contracts.export import load_export
from distributed_cls.contracts.predict_output import Prediction, StreamJob
from distributed_cls.contracts.predicted import PredictionSummary
from distributed_cls.errors import UserError
from distributed_cls.inference import prediction_summary, slices
from distributed_cls.inference.broadcast import ship_to_executors
from distributed_cls.inference.bulk import PredictTask, classify, file_item, truth_from_path
from distributed_cls.inference.output_errors import output_named
from distributed_cls.run import progress
from distributed_cls.run.progress import Display
from distributed_cls.spark.interruptible import run_interruptibly
from distributed_cls.storage.walk import walk
from distributed_cls.text import first_line, has_foreign_bytes, printable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

_SCHEMA = "path string, modificationTime timestamp, length long, content binary"
_FOREVER = "36500d"
_STOP_LIMIT = "20s"  # for the micro-batch in progress; without it Spark waits for ever
_LISTING_TASKS = "spark.sql.sources.parallelPartitionDiscovery.parallelism"


def batch_name(number: int) -> str:
    """The file name of a micro-batch."""
    return f"batch-{number:09d}.parquet"


def classify_files(files: list[tuple[str, int]], task: PredictTask) -> list[Prediction]:
    """The rows of some images, (path, bytes) (on an executor)."""
    classes = task.export.classes
    return list(classify((file_item(path, truth_from_path(path, classes), size) for path, size in files), task))


def balance_by_cost(files: list[tuple[str, int]], num_tasks: int) -> list[list[tuple[str, int]]]:
    """(path, bytes) pairs in at most ``num_tasks`` lists of about equal cost: the largest first, to the cheapest list.

    This is the LPT rule (Graham 1969).
    """
    lists: list[list[tuple[str, int]]] = [[] for _ in range(min(num_tasks, len(files)))]
    costs = [0] * len(lists)
    for path, size in sorted(files, key=lambda pair: (-pair[1], pair[0])):
        cheapest = costs.index(min(costs))
        lists[cheapest].append((path, size))
        costs[cheapest] += size + slices.COST_OF_AN_IMAGE
    return lists


@dataclasses.dataclass
class _Batches:
    """Classifies the micro-batches and shows how far the job is (on the driver)."""

    spark: "SparkSession"
    output: str
    task: PredictTask
    display: Display
    images: int = 0
    batches: int = 0

    def classify(self, arrived: "DataFrame", number: int) -> None:
        """Classify the files of micro-batch ``number`` and write its file, unless an earlier try has."""
        target = storage.join(self.output, batch_name(number))
        if storage.exists(target):
            return
        started = time.time()
        # Without the content column Spark only lists; each task reads its own images, so that a file that vanished or
        # is too large for one JVM array is a row with a reason and not the end of the query.
        found = [(storage.plain(row.path), row.length, row.modified) for row in arrived.collect()]
        if not found:
            return
        context = self.spark.sparkContext
        lists = balance_by_cost([(path, size) for path, size, _ in found], context.defaultParallelism)
        rows = context.parallelize(lists, len(lists)).flatMap(partial(classify_files, task=self.task)).collect()
        storage.write_bytes(target, predict_output.to_parquet(sorted(rows, key=lambda row: row.path)))
        self.images += len(rows)
        self.batches += 1
        self._show(number, rows, started, min(modified for _, _, modified in found))

    def _show(self, number: int, rows: list[Prediction], started: float, oldest: float) -> None:
        ended = time.time()
        images = "1 image" if len(rows) == 1 else f"{len(rows):,} images"
        unread = sum(row.error is not None for row in rows)
        self.display.line(
            f"batch {number}: {images} ({unread:,} unreadable), {len(rows) / (ended - started):,.1f} images/s, "
            f"lag {ended - oldest:.1f} s, {self.images:,} since the start"
        )


def _watched(path: str) -> str:
    """The absolute form of data.path. Raises UserError unless it is a folder."""
    source = storage.absolute(storage.plain(path))
    if has_foreign_bytes(source):
        raise UserError(
            f"Expected data.path to be valid UTF-8, which is all that Spark can read. Received: {printable(source)}. "
            "Rename the folder, or classify it with job=predict."
        )
    system, root = storage.filesystem(source)
    if not system.isdir(root):
        received = "a file" if system.exists(root) else "no such folder"
        raise UserError(
            f"Expected data.path to be a folder to watch. Received: {source}: {received}. "
            "Create it, or set data.path to another folder."
        )
    return source


def _note_unseen(source: str, display: Display) -> None:
    """Say what Spark's listing leaves out: names that begin with _, and names that Java cannot read."""
    unseen = [name for name in storage.names(source) if name.startswith("_")]
    if unseen:
        display.line(f"names that begin with _ are not looked at, {len(unseen)} here, such as {unseen[0]}: rename them")
    foreign = ["/".join(entry.parts) for entry in walk(source) if has_foreign_bytes("/".join(entry.parts))]
    if foreign:
        display.line(
            f"names that are not UTF-8 cannot be read by Spark, {len(foreign)} here, such as {printable(foreign[0])}: "
            "rename them, or classify them with job=predict"
        )


def _check_output(output: str, source: str, config: Config) -> None:
    """Results, progress log and source belong together; refuse a mixture before it loses or repeats images."""
    slices.refuse_inside(source, output)
    has_results = any(name.startswith("batch-") for name in storage.names(output))
    before = predict_output.read_stream_job(output)
    if before is not None:
        if before.source != source:
            raise UserError(
                f"Expected output={output} to go on with data.path={before.source}. Received: data.path={source}. "
                "Choose another output."
            )
        if has_results and config.stream.checkpoint is None and not storage.exists(storage.join(output, "_checkpoint")):
            raise UserError(
                f"Expected the progress log {output}/_checkpoint beside the results. Received: no such folder. "
                "Without it every image would be classified again: choose another output, or put it back."
            )
        return
    if has_results:
        raise UserError(
            f"Expected output to be new, or to hold results of this job. Received: output={output}, "
            f"which holds batches without {predict_output.STREAM_JOB}. Choose another output."
        )
    storage.check_writable(output, "output")
    predict_output.write_stream_job(output, StreamJob(source))


def _query(spark: "SparkSession", config: Config, source: str, output: str, batches: _Batches) -> "StreamingQuery":
    from pyspark.sql import functions as F  # noqa: N812  lazily: only the Spark jobs need it

    arriving = (
        spark.readStream.format("binaryFile")
        .schema(_SCHEMA)
        .option("recursiveFileLookup", True)
        .option("maxFilesPerTrigger", config.stream.batch_images)
        # By default a file whose date is a week older than the newest one seen is skipped without a word; photos that
        # are copied with their dates are just that.
        .option("maxFileAge", _FOREVER)
        .load(storage.for_spark_reader(source))
        .select("path", "length", F.unix_micros("modificationTime").alias("micros"))
        .select("path", "length", (F.col("micros") / 1e6).alias("modified"))
    )
    spark.conf.set("spark.sql.streaming.stopTimeout", _STOP_LIMIT)
    # Spark lists the files of a micro-batch once more: measured, n * n paths for n files, in as many as 10,000 tasks.
    # In as many tasks as run at once, a micro-batch of 40 images takes 1 s where it took 8 to 10.
    spark.conf.set(_LISTING_TASKS, spark.sparkContext.defaultParallelism)
    checkpoint = config.stream.checkpoint or storage.join(output, "_checkpoint")
    writer = arriving.writeStream.foreachBatch(batches.classify).option(
        "checkpointLocation", storage.for_spark(checkpoint)
    )
    if config.stream.once:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{config.stream.interval} seconds").start()


def _stop(query: "StreamingQuery", batches: _Batches) -> None:
    """End the query after a signal; what the micro-batch in progress has not written is done at the next start."""
    from pyspark.errors import PySparkException  # lazily: only the Spark jobs need it

    try:
        query.stop()
    except PySparkException as error:
        batches.display.line(f"the query did not stop by itself ({first_line(error)}); Spark ends it")
    images = "1 image" if batches.images == 1 else f"{batches.images:,} images"
    batches.display.line(f"stopped after {images}; started again, the job goes on from here")


def run(get_spark: Callable[[], "SparkSession"], config: Config, display: Display) -> PredictionSummary:
    """Classify images as they arrive in ``config.data.path`` until stopped; with ``stream.once`` those that are there.

    Raises UserError when the model, the folder or the output are not what they should be.
    """
    assert config.model_dir and config.data.path and config.output, "the configuration asks for them when job=stream"
    export = load_export(config.model_dir)
    output = storage.absolute(storage.plain(config.output))
    source = _watched(config.data.path)
    _check_output(output, source, config)
    _note_unseen(source, display)
    spark = get_spark()
    top_k = min(config.predict.top_k, len(export.classes))
    task = PredictTask(ship_to_executors(spark, export), config.predict.batch_size, top_k, config.predict.threads)
    batches = _Batches(spark, output, task, display)
    summary = PredictionSummary("stream", export.name, export.version, source, output)
    began = time.monotonic()
    with output_named(output):
        query = _query(spark, config, source, output, batches)
        display.begin(f"watching {printable(source)}, writing to {printable(output)}")
        run_interruptibly(query.awaitTermination, on_stop=partial(_stop, query, batches))
        display.end()
        summary = dataclasses.replace(
            summary, new_files=batches.batches, new_images=batches.images, seconds=time.monotonic() - began
        )
        names = [name for name in storage.names(output) if name.startswith("batch-")]
        summary = prediction_summary.counted(summary, names)
        predicted.write(output, summary)
    prediction_summary.show(summary, progress.console)
    return summary
