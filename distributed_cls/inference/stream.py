"""The story of the stream job: images that arrive in a folder become rows, each exactly once.

Spark's file source writes down, before a micro-batch begins, which files are in it. The rows of micro-batch n become
the one file <output>/batch-<n>.parquet, written under a temporary name and renamed. After a kill at any moment Spark
either repeats micro-batch n with the same files, and finds that its file is there already or writes it, or goes on
with n + 1. So no image is lost, and none is there twice, whoever reads the folder.
"""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distributed_cls.config import Config
from distributed_cls.errors import UserError
from distributed_cls.inference import summary
from distributed_cls.inference.artefact import load_export
from distributed_cls.inference.bulk import Work, classify, file_item, to_parquet, truth_from_path
from distributed_cls.inference.model_copy import travelling
from distributed_cls.inference.storage import Folder, for_spark, plain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

_JOB = "_stream.json"
_SCHEMA = "path string, modificationTime timestamp, length long, content binary"
_FOREVER = "36500d"


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
        work[least] += size + 20_000
    return lists


@dataclasses.dataclass
class _Batches:
    """Does the micro-batches and says how it goes (on the driver)."""

    spark: "SparkSession"
    output: Folder
    work: Work
    images: int = 0
    batches: int = 0

    def do(self, arrived: "DataFrame", number: int) -> None:
        """Classify the files of micro-batch ``number`` and write its file, unless an earlier try has."""
        if self.output.exists(batch_name(number)):
            return
        started = time.time()
        # Without the content column Spark only lists; each task reads its own images, so that a file that vanished or
        # is too large for one JVM array is a row with a reason and not the end of the query.
        found = [(plain(row.path), row.length, row.modified) for row in arrived.collect()]
        if not found:
            return
        hands = deal([(path, size) for path, size, _ in found], self.spark.sparkContext.defaultParallelism)
        tasks = self.spark.sparkContext.parallelize(hands, len(hands))
        rows = tasks.flatMap(functools.partial(classify_paths, work=self.work)).collect()
        self.output.write(batch_name(number), to_parquet(sorted(rows, key=lambda row: row["path"])))
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


def _check_output(output: Folder, config: Config) -> None:
    """Results, progress log and source belong together; refuse a mixture before it loses or repeats images."""
    source = plain(str(config.data.path))
    has_results = any(name.startswith("batch-") for name in output.names())
    if output.exists(_JOB):
        before = json.loads(output.read(_JOB))["data.path"]
        if before != source:
            raise UserError(
                f"Expected output={output.url} to go on with data.path={before}. Received: data.path={source}. "
                "Choose another output."
            )
        if has_results and config.stream.checkpoint is None and not output.exists("_checkpoint"):
            raise UserError(
                f"Expected the progress log {output.url}/_checkpoint beside the results. Received: no such folder. "
                "Without it every image would be classified again: choose another output, or put it back."
            )
        return
    if has_results:
        raise UserError(
            f"Expected output to be new, or to hold results of this job. Received: output={output.url}, "
            f"which holds batches without {_JOB}. Choose another output."
        )
    output.write(_JOB, json.dumps({"data.path": source}).encode())


def _query(spark: "SparkSession", config: Config, output: Folder, batches: _Batches) -> "StreamingQuery":
    from pyspark.sql import functions as F  # noqa: N812  lazily: only the Spark jobs need it

    arriving = (
        spark.readStream.format("binaryFile")
        .schema(_SCHEMA)
        .option("recursiveFileLookup", True)
        .option("maxFilesPerTrigger", config.stream.batch_images)
        # By default a file whose date is a week older than the newest one seen is skipped without a word; photos that
        # are copied with their dates are just that.
        .option("maxFileAge", _FOREVER)
        .load(for_spark(str(config.data.path)))
        .select("path", "length", F.unix_micros("modificationTime").alias("micros"))
        .select("path", "length", (F.col("micros") / 1e6).alias("modified"))
    )
    checkpoint = config.stream.checkpoint or f"{output.url.rstrip('/')}/_checkpoint"
    writer = arriving.writeStream.foreachBatch(batches.do).option("checkpointLocation", for_spark(checkpoint))
    if config.stream.once:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{config.stream.interval} seconds").start()


@contextlib.contextmanager
def _stopping(query: "StreamingQuery") -> Iterator[None]:
    try:
        yield
    finally:
        if query.isActive:
            query.stop()


def run(spark: "SparkSession", config: Config) -> dict[str, Any]:
    """Classify images as they arrive in ``config.data.path`` until stopped; with ``stream.once`` those that are there.

    Raises UserError when the model, the folder or the output are not what they should be.
    """
    assert config.model_dir and config.data.path and config.output, "the configuration asks for them when job=stream"
    export = load_export(config.model_dir)
    output = Folder(config.output)
    if not Folder(config.data.path).exists():
        raise UserError(
            f"Expected data.path to be a folder to watch. Received: data.path={config.data.path}: no such folder."
        )
    _check_output(output, config)
    top_k = min(config.predict.top_k, len(export.classes))
    work = Work(travelling(spark, export), config.predict.batch_size, top_k, config.predict.threads)
    batches = _Batches(spark, output, work)
    started = time.monotonic()
    query = _query(spark, config, output, batches)
    print(f"stream: watching {config.data.path}, writing to {output.url}", flush=True)
    with _stopping(query):
        query.awaitTermination()
    told = summary.of_parts(output, [name for name in output.names() if name.startswith("batch-")])
    told = {"job": "stream", "model": export.name, "output": output.url, **told}
    told |= {"new_images": batches.images, "new_batches": batches.batches, "seconds": time.monotonic() - started}
    output.write("_summary.json", json.dumps(told, indent=2).encode())
    summary.show(told)
    return told
