"""The story of the predict job: a folder, Parquet files or a table of images become a Parquet table of answers.

    <output>/part-00000.parquet …   path, label, confidence, top, error, truth
    <output>/_plan.parquet, _job.json, _summary.json

Each part is written by one task, under a temporary name and renamed. A job that is started again finds the plan and
the parts that are there, and does the others.
"""

import functools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts.export import load_export
from distributed_cls.errors import UserError
from distributed_cls.inference import prediction_summary, slices
from distributed_cls.inference.broadcast import ship_to_executors
from distributed_cls.inference.bulk import Work, classify, to_parquet
from distributed_cls.spark import stage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TABLE = "table:"
_PROGRESS_SECONDS = 5.0


def part_name(number: int) -> str:
    """The file name of a part."""
    return f"part-{number:05d}.parquet"


def do_parts(numbered: Iterable[tuple[int, list[slices.Piece]]], work: Work, output: str) -> Iterator[int]:
    """Classify parts and write them (on an executor): the number of rows of each."""
    for number, pieces in numbered:
        rows = list(classify(slices.items(pieces, work.export.classes), work))
        storage.write_bytes(storage.join(output, part_name(number)), to_parquet(rows))
        yield len(rows)


def _stage_table(spark: "SparkSession", name: str, output: str) -> str:
    """Copy a catalog table into the output as Parquet, whatever its format: a copy has parts that can be resumed."""
    staged = storage.join(output, "_input")
    if not storage.exists(storage.join(staged, "_SUCCESS")):
        from pyspark.errors import AnalysisException  # lazily: only the Spark jobs need it

        try:
            spark.table(name).write.mode("overwrite").parquet(storage.for_spark(staged))
        except AnalysisException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"Expected data.path=table:<name> to name a table. Received: {name}: {reason}.") from error
    return staged


def _source(path: str) -> str:
    """data.path as it means the same wherever the job is started."""
    return path if path.startswith(_TABLE) else storage.absolute(storage.plain(path))


def _make_plan(
    get_spark: Callable[[], "SparkSession"], config: Config, output: str, identity: dict[str, Any], classes: list[str]
) -> list[list[slices.Piece]]:
    source = identity["data.path"]
    if source.startswith(_TABLE):
        storage.check_writable(output, "output")
        source = _stage_table(get_spark(), source.removeprefix(_TABLE), output)
    pieces = slices.find_pieces(source)  # before Spark: it refuses what holds no images
    if unread := slices.unread_labels(pieces, classes):
        print(
            f"predict: the labels of {unread} are numbers, and nothing says which class has which number: the results "
            "have no truth and no accuracy",
            flush=True,
        )
    parts = slices.cut(pieces, config.predict, get_spark().sparkContext.defaultParallelism)
    slices.save(output, parts, identity)
    return parts


def _watch(output: str, sizes: dict[str, int], ended: threading.Event) -> None:
    """Print how far the job is, until it ended."""
    started, total = time.monotonic(), sum(sizes.values())
    before = sum(sizes[name] for name in storage.names(output) if name in sizes)
    while not ended.wait(_PROGRESS_SECONDS):
        done = sum(sizes[name] for name in storage.names(output) if name in sizes)
        rate = (done - before) / (time.monotonic() - started)
        # Until the first part is written there is no rate to tell.
        print(f"predict: {done} of {total} images" + (f", {rate:.0f} images/s" if done else ""), flush=True)


def predict(get_spark: Callable[[], "SparkSession"], config: Config) -> dict[str, Any]:
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
    identity = {"model_version": export.version, "data.path": source, "predict.top_k": top_k}
    try:
        parts = slices.load(output, identity) or _make_plan(get_spark, config, output, identity, export.classes)
    except OSError as error:
        raise UserError(
            f"Expected to read data.path={config.data.path} and to write output={config.output}. Received: {error}."
        ) from error
    written = set(storage.names(output))
    todo = [(number, pieces) for number, pieces in enumerate(parts) if part_name(number) not in written]
    done_before = len(parts) - len(todo)
    if done_before:
        rest = "doing the others" if todo else "nothing is left to do (images that came later need another output)"
        print(f"predict: {done_before} of {len(parts)} parts are there already; {rest}", flush=True)
    rows, seconds = 0, 0.0
    if todo:
        spark, started = get_spark(), time.monotonic()
        work = Work(ship_to_executors(spark, export), config.predict.batch_size, top_k, config.predict.threads)
        rows = _run(spark, output, todo, work)
        seconds = time.monotonic() - started
    told = prediction_summary.of_parts(output, [part_name(number) for number in range(len(parts))])
    told = {"job": "predict", "model": export.name, **identity, "output": output, **told}
    told |= {"seconds": seconds, "images_per_second": rows / seconds if todo else 0.0}  # of what was done now
    told |= {"parts": len(parts), "parts_done_before": done_before}
    storage.write_bytes(storage.join(output, "_summary.json"), json.dumps(told, indent=2).encode())
    prediction_summary.show(told)
    return told


def _run(spark: "SparkSession", output: str, todo: list[tuple[int, list[slices.Piece]]], work: Work) -> int:
    sizes = {part_name(number): sum(piece.images for piece in pieces) for number, pieces in todo}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(output, sizes, ended), name="progress", daemon=True)
    watcher.start()
    try:
        return sum(stage.run(spark, "classify images", functools.partial(do_parts, work=work, output=output), todo))
    finally:
        ended.set()
        watcher.join(_PROGRESS_SECONDS)
