"""``python -m launch --prepare-java``: makes the archive of Spark's classes for this machine's Java."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import barrier, class_archive, environment, stage
from distributed_cls.spark.java import cache_folder, java_home
from distributed_cls.spark.properties import JAVA_OPTIONS
from distributed_cls.spark.session import Session

_SECONDS = 900.0  # for Java to write the archive when it ends


def make() -> Path:
    """Make the archive, 120 MB, in the place of those that were made for this Spark before. Takes half a minute.

    Raises UserError where this Java makes none.
    """
    java, spark = Path(java_home()), environment.spark_home()
    class_archive.remove(spark)  # its own too: Java would use it, and then makes none
    with tempfile.TemporaryDirectory(prefix="distributed_cls-") as folder:
        made = Path(folder, "made.jsa")
        _use_spark(Path(folder), f"-XX:ArchiveClassesAtExit={made} -Xlog:cds=off -Xlog:cds*=off")
        if not made.exists():
            raise UserError(
                "Expected a Java with class data sharing, and a Spark whose conf folder is empty. Received: "
                f"JAVA_HOME={java} and SPARK_HOME={spark}, of which no archive was made. Use others, or go without: "
                "Spark then takes some seconds longer to start."
            )
        try:
            return class_archive.keep(made, java, spark)
        except OSError as error:
            raise UserError(
                f"Expected a folder with room for 120 MB at {cache_folder()}. Received: {error.strerror or error}. Set "
                "XDG_CACHE_HOME to another one."
            ) from error


def _use_spark(folder: Path, options: str) -> None:
    """Start Spark with these options of Java, let it do what jobs let it do, and end it."""
    cluster = ClusterConfig(name="archive", master="local[2]", workers=2, spark={JAVA_OPTIONS: options})
    session = Session(cluster, folder)
    try:
        stage.run(session.spark, "archive", _same, [1, 2])
        barrier.run_barrier(session.spark, "archive", 2, 0, str)
    finally:
        session.stop(_SECONDS)


def _same(items: Iterable[int]) -> Iterator[int]:
    return iter(items)
