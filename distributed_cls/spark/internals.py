"""Parts of PySpark that are not public API, in one place: what a new release may break breaks here.

No public call counts the free slots of a cluster as Spark's own barrier check does, ends the JVM that this process has
started, or says where that JVM's output goes.
"""

from collections.abc import Mapping
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_GATEWAY_SECONDS = 30.0


def max_concurrent_tasks(spark: "SparkSession") -> int:
    """Tasks that the cluster can run at once now, cores and GPUs considered: what Spark's own barrier check counts."""
    context = spark.sparkContext._jsc.sc()
    return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))


def start_jvm(properties: Mapping[str, str], output: Path) -> None:
    """Start the JVM of this process with standard output and error in the file ``output``."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    conf = SparkConf(loadDefaults=False).setAll(list(properties.items()))
    with output.open("ab") as stream:
        gateway = launch_gateway(conf, popen_kwargs={"stdout": stream, "stderr": stream})
    SparkContext._ensure_initialized(gateway=gateway)


def submitted_properties() -> dict[str, str]:
    """The properties of the JVM that spark-submit has started."""
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def running_session() -> "SparkSession | None":
    """A session that is there already: in a notebook, or on a platform that starts Spark itself."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate() if SparkContext._active_spark_context is not None else None


def end_jvm() -> None:
    """End the JVM that this process has started, if there is one, and wait for it."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    if gateway is None or process is None:
        return
    if process.poll() is None:
        gateway.shutdown()
    process.stdin.close()  # its end is the JVM's sign to exit
    try:
        process.wait(_GATEWAY_SECONDS)
    except TimeoutExpired:
        process.kill()
        process.wait()
    SparkContext._gateway = SparkContext._jvm = None
