"""The Spark session of the chosen cluster: its Java, its properties, its temporary files, and its end."""

import concurrent.futures
import contextlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed_cls
from distributed_cls.config import ClusterConfig
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark.interruptible import in_background, silence_py4j
from distributed_cls.spark.java import java_home
from distributed_cls.storage import replacing

log = logging.getLogger(__name__)

_GATEWAY_SECONDS = 30.0
_STOP_SECONDS = 120.0
# The oldest core count that shows anything distributed: a machine with one core runs two slots on it.
_LEAST_LOCAL_SLOTS = 2

# On a local master Java hands work to Python processes on the same cores, and should leave these to them: the quick
# compiler and the collector without threads of its own. Spark's start and two small jobs then take 0.5 to 0.6 of the
# CPU time that they take with Java's defaults.
LOCAL_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

# Prints the GPUs of a machine in the form that Spark's resource discovery reads.
_GPU_SCRIPT = """#!/bin/sh
printf '{"name": "gpu", "addresses": ["%s"]}\\n' \\
  "$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd, - | sed 's/,/","/g')"
"""

_LOG4J = """status = error
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {path}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{HH:mm:ss}} %p %c{{1}}: %m%n%ex
"""


class Session:
    """One Spark session, started when it is first needed and stopped with everything that belongs to it.

    ``folder`` takes Spark's log and, while it runs, its temporary files.
    """

    def __init__(self, cluster: ClusterConfig, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder.absolute()
        self._scratch = self._folder / ".spark"
        self._spark: Any = None

    @property
    def spark(self) -> Any:
        """The ``SparkSession``."""
        if self._spark is None:
            self._spark = self._start()
        return self._spark

    def _start(self) -> Any:
        submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has started the JVM already
        _check_local_gpus(self.cluster)
        spark_log = self._folder / "logs" / "spark.log"
        for folder in (self._scratch, spark_log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if not submitted:
            os.environ["JAVA_HOME"] = java_home()
            # Of the driver alone: the executors' own scratch space is their cluster's business.
            os.environ["SPARK_LOCAL_DIRS"] = str(self._scratch)
            if is_local(self.cluster.master):
                os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        os.environ["PYSPARK_PYTHON"] = self.cluster.python or sys.executable
        (self._scratch / "log4j2.properties").write_text(_LOG4J.format(path=spark_log), encoding="utf-8")
        wanted = properties(self.cluster, self._scratch)
        silence_py4j()
        with _output_to(spark_log):
            spark = _build(wanted, submitted, spark_log)
        context = spark.sparkContext
        context.addPyFile(str(_package_zip(self._scratch)))
        if submitted:  # its JVM writes to the terminal, as spark-submit's own settings say
            context.setLogLevel("WARN")
            log.info("Spark %s on %s", context.version, context.master)
        else:
            log.info("Spark %s on %s, its log in %s", context.version, context.master, spark_log)
        return spark

    def stop(self) -> None:
        """Stop Spark, wait for its JVM to end, and remove its temporary files."""
        if self._spark is not None:
            _stop(self._spark)
        self._spark = None
        if "pyspark" in sys.modules:  # also after a start that failed half-way
            _end_jvm()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _stop(spark: Any) -> None:
    """Stop Spark, from a thread with a connection of its own: a signal may have cut off a call of this one's."""
    from py4j.protocol import Py4JError

    try:
        in_background(spark.stop, limit=_STOP_SECONDS)
    except concurrent.futures.TimeoutError:
        log.warning("Spark did not stop within %g s; its Java process is ended", _STOP_SECONDS)
    except (OSError, Py4JError) as error:
        # A signal to the whole process group, as `timeout` and some schedulers send it, has ended the JVM already.
        log.debug("Spark was gone before it was stopped: %s", error)


def _end_jvm() -> None:
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
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    SparkContext._gateway = SparkContext._jvm = None


def is_local(master: str | None) -> bool:
    """Whether ``master`` runs everything on this machine."""
    return bool(master) and str(master).startswith("local")


def properties(cluster: ClusterConfig, scratch: Path) -> dict[str, str]:
    """The Spark properties of ``cluster``: ours first, then ``cluster.spark``, which wins."""
    java_options = [
        *([LOCAL_JAVA] if is_local(cluster.master) else []),
        "-XX:-UsePerfData",  # no files in the machine's temporary folder
        f'"-Djava.io.tmpdir={scratch}"',
        f'"-Dlog4j2.configurationFile=file:{scratch / "log4j2.properties"}"',
    ]
    wanted = {
        "spark.app.name": "distributed_cls",
        "spark.driver.extraJavaOptions": " ".join(java_options),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.showConsoleProgress": "false",
        # Barrier stages: no dynamic allocation (SPARK-24942), and quick answers instead of hour-long waits.
        "spark.dynamicAllocation.enabled": "false",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "5",
        "spark.barrier.sync.timeout": str(round(cluster.rendezvous_timeout)),
        # Preparation is bound by decoding, not by shuffles of millions of rows.
        "spark.sql.shuffle.partitions": "8",
        "spark.task.maxFailures": "2",
    }
    if cluster.master:
        wanted["spark.master"] = local_master(cluster.master)
    if is_local(cluster.master):
        wanted |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    if cluster.gpus_per_worker:
        wanted |= _gpu_properties(cluster, scratch)
    return wanted | {key: str(value) for key, value in cluster.spark.items()}


def local_master(master: str) -> str:
    """``local[*]`` with a count: this process's cores, two at least."""
    if master not in ("local[*]", "local"):
        return master
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"local[{max(cores, _LEAST_LOCAL_SLOTS)}]"


def _gpu_properties(cluster: ClusterConfig, scratch: Path) -> dict[str, str]:
    """What Spark needs to know to hand out GPUs; on a real cluster its administrator has set the rest."""
    amounts = {
        "spark.task.resource.gpu.amount": str(cluster.gpus_per_worker),
        # The distributor reads CUDA_VISIBLE_DEVICES as well as it sets it: a worker that was used before would give
        # the second attempt an index into the one device of the first.
        "spark.python.worker.reuse": "false",
    }
    if not is_local(cluster.master):
        return amounts
    script = scratch / "find_gpus.sh"
    with replacing(script) as temporary:
        temporary.write_text(_GPU_SCRIPT, encoding="utf-8")
        temporary.chmod(0o755)
    total = str(cluster.workers * cluster.gpus_per_worker)
    return amounts | {
        "spark.executor.resource.gpu.amount": total,
        "spark.worker.resource.gpu.amount": total,
        "spark.worker.resource.gpu.discoveryScript": str(script),
    }


def _check_local_gpus(cluster: ClusterConfig) -> None:
    """Count this machine's GPUs before Spark starts, which would only say that a script has failed."""
    if not cluster.gpus_per_worker or not is_local(cluster.master):
        return
    needed = cluster.workers * cluster.gpus_per_worker
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
        found, how = len(re.findall(r"^GPU \d+", listed, re.MULTILINE)), "nvidia-smi lists"
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        visible = found if chosen is None else len([gpu for gpu in chosen.split(",") if gpu])
        if visible < found:
            found, how = visible, f"CUDA_VISIBLE_DEVICES={chosen} leaves"
    except FileNotFoundError:
        found, how = 0, "nvidia-smi is not installed, so"
    except subprocess.SubprocessError:
        found, how = 0, "nvidia-smi fails, so"
    if found < needed:
        raise UserError(
            f"Expected {needed} GPU(s) on this machine (cluster={cluster.name}: {cluster.workers} worker(s) with "
            f"{cluster.gpus_per_worker} each). Received: {how} {found}. Set cluster=local, or run where the GPUs are."
        )


def _build(wanted: dict[str, str], submitted: bool, spark_log: Path) -> Any:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    if submitted:
        from pyspark import SparkContext

        SparkContext._ensure_initialized()
        given = dict(SparkConf().getAll())
        wanted = {key: value for key, value in wanted.items() if key not in given}
    for key, value in wanted.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        master = wanted.get("spark.master", "the submitted master")
        raise RunError(f"Spark did not start on {master}: {reason}. Its log: {spark_log}") from error


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send standard output and error to ``path`` for what is started meanwhile: the JVM keeps them for its life."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with path.open("ab") as target:
        try:
            os.dup2(target.fileno(), 1)
            os.dup2(target.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for descriptor in saved:
                os.close(descriptor)


def _package_zip(scratch: Path) -> Path:
    """This package as a zip file: executors run the driver's code, whatever is installed on them."""
    package = Path(distributed_cls.__file__).parent
    target = scratch / "distributed_cls.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
    return target


def versions() -> dict[str, str]:
    """The releases that a run stands on, for its summary."""
    names = ("distributed-cls", "pyspark", "tensorflow", "keras", "numpy", "opencv-python-headless")
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


def same_session(one: ClusterConfig, other: ClusterConfig) -> bool:
    """Whether two trials of a sweep can share a Spark session."""
    keys = ("master", "python", "spark", "gpus_per_worker", "rendezvous_timeout")
    return json.dumps([getattr(one, key) for key in keys]) == json.dumps([getattr(other, key) for key in keys])
