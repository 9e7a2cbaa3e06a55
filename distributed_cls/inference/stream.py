"""The story of the stream job: images that arrive in a folder become rows, each exactly once.

Spark's file source writes down, before a micro-batch begins, which files are in it. The rows of micro-batch n become
the one file <output>/batch-<n>.parquet, written under a temporary name and renamed. After a kill at any moment Spark
either repeats micro-batch n with the same files, and finds that its file is there already or writes it, or goes on
with n + 1. So no image is lost, and none is there twice, whoever reads the folder.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts.export import load_export
from distributed_cls.errors import UserError
from distributed_cls.inference import prediction_summary, slices
from distributed_cls.inference.broadcast import ship_to_executors
from distributed_cls.inference.bulk import Work, classify, file_item, to_parquet, truth_from_path
from distributed_cls.spark.interruptible import run_interruptibly

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

_JOB = "_stream.json"
_SCHEMA = "path string, modificationTime timestamp, length long, content binary"
_FOREVER = "36500d"
_STOP_LIMIT = "20s"  # for the micro-batch in progress; without it Spark waits for ever


def batch_name(number: int) -> str:
    """The file name of a micro-batch."""
    return f"batch-{number:09d}.parquet"


def classify_paths(paths: list[str], work: Work) -> list[dict[str, Any]]:
    """The rows of some images (on an executor)."""
    return list(classify((file_item(path, truth_from_path(path, work.export.classes)) for path in paths), work))


def deal(found: list[tuple[str, int]], hands: int) -> list[list[str]]:
    """(path, bytes) pairs as at most ``hands`` lists of paths with about equal work; largest first, to the least."""
    lists: list[list[str]] = [[] for _ in range(min(hands, len(found)))]
    work = [0] * len(lists)
    for path, size in sorted(found, key=lambda pair: (-pair[1], pair[0])):
        least = work.index(min(work))
        lists[least].append(path)
        work[least] += size + slices.COST_OF_AN_IMAGE
    return lists


@dataclasses.dataclass
class _Batches:
    """Does the micro-batches and says how it goes (on the driver)."""

    spark: "SparkSession"
    output: str
    work: Work
    images: int = 0
    batches: int = 0

    def do(self, arrived: "DataFrame", number: int) -> None:
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
        hands = deal([(path, size) for path, size, _ in found], self.spark.sparkContext.defaultParallelism)
        tasks = self.spark.sparkContext.parallelize(hands, len(hands))
        rows = tasks.flatMap(functools.partial(classify_paths, work=self.work)).collect()
        storage.write_bytes(target, to_parquet(sorted(rows, key=lambda row: row["path"])))
        ended = time.time()
        self.images += len(rows)
        self.batches += 1
        bad = sum(row["error"] is not None for row in rows)
        lag = ended - min(modified for _, _, modified in found)
        print(
            f"stream: batch {number}: {len(rows)} images ({bad} unreadable), "
            f"{len(rows) / (ended - started):.0f} images/s, lag {lag:.1f} s, {self.images} since the start",
            flush=True,
        )


def _watched(path: str) -> str:
    """The absolute form of data.path. Raises UserError unless it is a folder."""
    source = storage.absolute(storage.plain(path))
    system, root = storage.filesystem(source)
    if not system.isdir(root):
        received = "a file" if system.exists(root) else "no such folder"
        raise UserError(
            f"Expected data.path to be a folder to watch. Received: {source}: {received}. "
            "Create it, or set data.path to another folder."
        )
    unseen = [name for name in storage.names(source) if name.startswith("_")]
    if unseen:
        print(
            f"stream: names that begin with _ are not looked at, such as {unseen[0]}: rename such pictures", flush=True
        )
    return source


def _check_output(output: str, source: str, config: Config) -> None:
    """Results, progress log and source belong together; refuse a mixture before it loses or repeats images."""
    slices.refuse_inside(source, output)
    has_results = any(name.startswith("batch-") for name in storage.names(output))
    job = storage.join(output, _JOB)
    if storage.exists(job):
        before = json.loads(storage.read_bytes(job))["data.path"]
        if before != source:
            raise UserError(
                f"Expected output={output} to go on with data.path={before}. Received: data.path={source}. "
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
            f"which holds batches without {_JOB}. Choose another output."
        )
    storage.check_writable(output, "output")
    storage.write_bytes(job, json.dumps({"data.path": source}).encode())


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
    checkpoint = config.stream.checkpoint or storage.join(output, "_checkpoint")
    writer = arriving.writeStream.foreachBatch(batches.do).option("checkpointLocation", storage.for_spark(checkpoint))
    if config.stream.once:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{config.stream.interval} seconds").start()


def _stop(query: "StreamingQuery", batches: _Batches) -> None:
    """End the query after a signal; what the micro-batch in progress has not written is done at the next start."""
    from pyspark.errors import PySparkException  # lazily: only the Spark jobs need it

    try:
        query.stop()
    except PySparkException as error:
        print(f"stream: the query did not stop by itself ({str(error).splitlines()[0]}); Spark ends it", flush=True)
    print(f"stream: stopped after {batches.images} images; started again, it goes on from here", flush=True)


def run(get_spark: Callable[[], "SparkSession"], config: Config) -> dict[str, Any]:
    """Classify images as they arrive in ``config.data.path`` until stopped; with ``stream.once`` those that are there.

    Raises UserError when the model, the folder or the output are not what they should be.
    """
    assert config.model_dir and config.data.path and config.output, "the configuration asks for them when job=stream"
    export = load_export(config.model_dir)
    output = storage.absolute(storage.plain(config.output))
    source = _watched(config.data.path)
    _check_output(output, source, config)
    spark = get_spark()
    top_k = min(config.predict.top_k, len(export.classes))
    work = Work(ship_to_executors(spark, export), config.predict.batch_size, top_k, config.predict.threads)
    batches = _Batches(spark, output, work)
    started = time.monotonic()
    query = _query(spark, config, source, output, batches)
    print(f"stream: watching {source}, writing to {output}", flush=True)
    run_interruptibly(query.awaitTermination, on_stop=functools.partial(_stop, query, batches))
    told = prediction_summary.of_parts(output, [name for name in storage.names(output) if name.startswith("batch-")])
    told = {"job": "stream", "model": export.name, "output": output, **told}
    told |= {"new_images": batches.images, "new_batches": batches.batches, "seconds": time.monotonic() - started}
    storage.write_bytes(storage.join(output, "_summary.json"), json.dumps(told, indent=2).encode())
    prediction_summary.show(told)
    return told
