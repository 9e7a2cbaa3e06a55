"""The Spark session of the chosen cluster: its Java, its properties, its temporary files, and its end."""

import concurrent.futures
import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import distributed_cls
from distributed_cls.config import ClusterConfig, plugins
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import internals, java_errors
from distributed_cls.spark.interruptible import run_interruptibly, silence_py4j
from distributed_cls.spark.java import java_home
from distributed_cls.spark.master import on_this_machine, with_slots
from distributed_cls.storage import replacing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_STOP_SECONDS = 120.0

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

# Java reads names outside of ASCII by the locale, Spark splits lists at commas, and its shell scripts split at spaces.
_PLAIN_PATH = re.compile(r"[\w./+@~-]+", re.ASCII)


class Session:
    """One Spark session, started when it is first needed and stopped with everything that belongs to it.

    ``folder`` takes Spark's log and, while it runs, its temporary files. A session that was there before (a notebook's,
    or that of a platform which starts Spark itself) is used as it is, and never stopped.
    """

    def __init__(self, cluster: ClusterConfig, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder.absolute()
        self._scratch = self._folder / ".spark"
        self._spark: SparkSession | None = None
        self._owned = True
        self._environment: dict[str, str | None] = {}  # what was there before this session changed it

    @property
    def spark(self) -> "SparkSession":
        """The ``SparkSession``."""
        if self._spark is None:
            self._spark = self._start()
        return self._spark

    def fits(self, cluster: ClusterConfig) -> bool:
        """Whether a session of ``cluster`` would have the same properties and interpreter as this one."""
        return identity(self.cluster) == identity(cluster)

    def _start(self) -> "SparkSession":
        _check_local_gpus(self.cluster)
        logs = self._folder / "logs"
        if not _PLAIN_PATH.fullmatch(str(self._folder)):
            self._scratch = Path(tempfile.mkdtemp(prefix="distributed_cls-"))
        for folder in (self._scratch, logs):
            folder.mkdir(parents=True, exist_ok=True)
        silence_py4j()
        running = internals.running_session() if "pyspark" in sys.modules else None
        if running is not None:
            self._owned = False
            log.info("Spark %s on %s was running already; it is used as it is", running.version, _master_of(running))
            running.sparkContext.addPyFile(str(_package_zip(self._scratch)))
            return running
        submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has started the JVM already
        self._set({"PYSPARK_PYTHON": self.cluster.python or os.environ.get("PYSPARK_PYTHON") or sys.executable})
        spark = self._attach() if submitted else self._launch()
        spark.sparkContext.addPyFile(str(_package_zip(self._scratch)))
        return spark

    def _attach(self) -> "SparkSession":
        """A session in the JVM that spark-submit has started; what was submitted wins, the master as well."""
        given = internals.submitted_properties()
        wanted = properties(self.cluster, self._scratch, given.get("spark.master"))
        wanted = {key: value for key, value in wanted.items() if key not in given}
        self._owned = "DATABRICKS_RUNTIME_VERSION" not in os.environ  # its sessions belong to the platform
        spark = _build(wanted, given.get("spark.master", "the submitted master"), None)
        spark.sparkContext.setLogLevel("WARN")  # its JVM writes to the terminal, as spark-submit's own settings say
        log.info("Spark %s on %s", spark.version, _master_of(spark))
        return spark

    def _launch(self) -> "SparkSession":
        """A session in a JVM of our own."""
        plain = self._scratch.parent == self._folder
        spark_log = self._folder / "logs" / "spark.log" if plain else self._scratch / "spark.log"
        self._set({"JAVA_HOME": java_home(), "SPARK_HOME": _spark_home()})
        # Of the driver alone: the executors' own scratch space is their cluster's business.
        self._set({"SPARK_LOCAL_DIRS": str(self._scratch)})
        if on_this_machine(self.cluster.master):
            self._set({"SPARK_LOCAL_IP": "127.0.0.1"})
        (self._scratch / "log4j2.properties").write_text(_LOG4J.format(path=spark_log), encoding="utf-8")
        wanted = properties(self.cluster, self._scratch)
        target = wanted.get("spark.master", "local")
        try:
            internals.start_jvm(wanted, spark_log)
        except Exception as error:
            raise RunError(_not_started(target, error, spark_log)) from error
        spark = _build(wanted, target, spark_log)
        log.info("Spark %s on %s, its log in %s", spark.version, _master_of(spark), self._folder / "logs" / "spark.log")
        return spark

    def _set(self, variables: Mapping[str, str]) -> None:
        """Set environment variables for this session; ``stop`` puts back what was there."""
        for name, value in variables.items():
            self._environment.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def stop(self) -> None:
        """Stop Spark, wait for its JVM to end, and remove its temporary files."""
        if self._spark is not None and self._owned:
            _stop(self._spark)
        self._spark = None
        if self._owned and "pyspark" in sys.modules:  # also after a start that failed half-way
            internals.end_jvm()
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment = {}
        spark_log = self._scratch / "spark.log"
        if spark_log.exists():
            shutil.move(spark_log, self._folder / "logs" / "spark.log")
        shutil.rmtree(self._scratch, ignore_errors=True)


def _master_of(spark: "SparkSession") -> str:
    return str(spark.sparkContext.master)


def _stop(spark: "SparkSession") -> None:
    """Stop Spark, from a thread with a connection of its own: a signal may have cut off a call of this one's."""
    from py4j.protocol import Py4JError

    try:
        run_interruptibly(spark.stop, limit=_STOP_SECONDS)
    except concurrent.futures.TimeoutError:
        log.warning("Spark did not stop within %g s; its Java process is ended", _STOP_SECONDS)
    except (OSError, Py4JError) as error:
        # A signal to the whole process group, as `timeout` and some schedulers send it, has ended the JVM already.
        log.debug("Spark was gone before it was stopped: %s", error)


def _spark_home() -> str:
    """The Spark of the installed pyspark, whatever SPARK_HOME says: another release's scripts would not fit it."""
    import pyspark

    own = str(Path(pyspark.__file__).parent)
    given = os.environ.get("SPARK_HOME")
    if given and Path(given).resolve() != Path(own).resolve():
        log.warning("SPARK_HOME=%s is not used: Spark %s comes with the installed pyspark", given, pyspark.__version__)
    return own


def identity(cluster: ClusterConfig) -> dict[str, str | None]:
    """What makes a session of ``cluster`` another one: its interpreter and its properties."""
    return {"python": cluster.python, **properties(cluster, Path("scratch"), write_files=False)}


def properties(
    cluster: ClusterConfig, scratch: Path, submitted_master: str | None = None, write_files: bool = True
) -> dict[str, str]:
    """The Spark properties of ``cluster``: ours first, then ``cluster.spark``, which wins.

    ``submitted_master``: the master that spark-submit has chosen; what follows from the master follows from that one.
    """
    master = submitted_master or (with_slots(cluster.master) if cluster.master else None)
    here = on_this_machine(master)
    java_options = [
        *([LOCAL_JAVA] if here else []),
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
    if master:
        wanted["spark.master"] = master
    if here:
        wanted |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    if cluster.gpus_per_worker:
        wanted |= _gpu_properties(cluster, scratch, here, write_files)
    return wanted | {key: str(value) for key, value in cluster.spark.items()}


def _gpu_properties(cluster: ClusterConfig, scratch: Path, here: bool, write_files: bool) -> dict[str, str]:
    """What Spark needs to know to hand out GPUs; on a real cluster its administrator has set the rest."""
    amounts = {
        "spark.task.resource.gpu.amount": str(cluster.gpus_per_worker),
        # The distributor reads CUDA_VISIBLE_DEVICES as well as it sets it: a worker that was used before would give
        # the second attempt an index into the one device of the first.
        "spark.python.worker.reuse": "false",
    }
    if not here:
        return amounts
    script = scratch / "find_gpus.sh"
    if write_files:
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
    if not cluster.gpus_per_worker or not on_this_machine(cluster.master):
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


def _build(wanted: Mapping[str, str], target: str, spark_log: Path | None) -> "SparkSession":
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for key, value in wanted.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise RunError(_not_started(target, error, spark_log)) from error


def _not_started(target: str, error: Exception, spark_log: Path | None) -> str:
    """One line with Java's own reason: from the exception, or from the log of a JVM that has ended."""
    reason = java_errors.java_reason(error)
    if "JAVA_GATEWAY_EXITED" in str(error) and spark_log is not None:
        reason = java_errors.logged_reason(spark_log.read_text(encoding="utf-8", errors="replace")) or reason
    where = f" Its log: {spark_log}" if spark_log is not None else ""
    return f"Spark did not start on {target}: {reason.rstrip('.')}.{where}"


def _package_zip(scratch: Path) -> Path:
    """This package and the plug-ins as a zip file: executors run the driver's code, whatever is installed there."""
    package = Path(distributed_cls.__file__).parent
    target = scratch / "distributed_cls.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
        for path in plugins.files():
            archive.write(path, path.name)
    return target


def versions() -> dict[str, str]:
    """The releases that a run stands on, for its summary."""
    names = ("distributed-cls", "pyspark", "tensorflow", "keras", "numpy", "opencv-python-headless")
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
