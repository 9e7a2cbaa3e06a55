"""The Spark session of the chosen cluster: started when it is needed, or found; stopped when it is ours."""

import atexit
import concurrent.futures
import contextlib
import importlib.metadata
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark import class_archive, environment, internals, java_errors, jvm, local_gpus, scratch
from distributed_cls.spark.environment import is_submitted
from distributed_cls.spark.interruptible import run_interruptibly, silence_py4j
from distributed_cls.spark.master import with_slots
from distributed_cls.spark.properties import OWN_LOG, chosen_master, job_properties, jvm_properties, properties

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_STOP_SECONDS = 120.0
_JAVA_SECONDS = 30.0  # for its JVM to end after that
# What Spark 4 does without the properties that jobs set.
_SPARK_DEFAULTS = {
    "spark.dynamicAllocation.enabled": "false",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "15s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "40",
    "spark.barrier.sync.timeout": "365d",
    "spark.task.maxFailures": "4",
    "spark.python.worker.reuse": "true",
}
_ANYWHERE = Path("scratch")  # in the place of the scratch folder when two sessions are compared


class Session:
    """One Spark session, started when it is first needed and stopped with everything that belongs to it.

    A session that was there before (``given``, or the active one of a notebook or of Databricks) is used instead and
    never stopped, nor is its JVM. ``folder`` takes Spark's log and, while it runs, its temporary files.
    """

    def __init__(self, cluster: ClusterConfig, folder: Path, given: "SparkSession | None" = None) -> None:
        self.cluster = cluster
        self._given = given
        self._folder = folder.absolute()
        self._spark: SparkSession | None = None
        self._found = False  # it was there before
        self._jvm: JavaGateway | None = None  # the one that this session has started
        self._submitted: dict[str, str] = {}  # the properties that spark-submit was given: they win
        self._scratch: Path | None = None
        self._environment = contextlib.ExitStack()
        self._reported: set[str] = set()

    @property
    def spark(self) -> "SparkSession":
        """The ``SparkSession``."""
        if self._spark is None:
            try:
                self._spark = self._find() or self._start()
            except BaseException:  # also Ctrl-C: nothing of a start that failed half-way is left
                self.stop()
                raise
        return self._spark

    @property
    def running(self) -> "SparkSession | None":
        """The ``SparkSession``; None before it has been started."""
        return self._spark

    def fits(self, cluster: ClusterConfig) -> bool:
        """Whether ``cluster`` would get the same session: the same properties, and the same Python on executors."""
        if self._found and self._spark is not None:
            self._report_differences(self._spark, cluster)
            return True
        return self._identity(cluster) == self._identity(self.cluster)

    @property
    def lost(self) -> bool:
        """Whether Spark has ended by itself: its JVM is gone, or its cluster has stopped the application."""
        if self._spark is None:
            return False
        return (self._jvm is not None and self._jvm.proc.poll() is not None) or internals.is_stopped(self._spark)

    def stop(self, java_seconds: float = _JAVA_SECONDS) -> None:
        """Stop Spark when it is ours, wait for its JVM to end (killed then), and remove its temporary files."""
        if self._spark is not None and not self._found:
            _stop(self._spark)
        self._spark = None
        if self._jvm is not None:
            jvm.end(self._jvm, java_seconds)
        self._jvm = None
        self._environment.close()
        if self._scratch is not None:
            if self._found:  # its executors may fetch our package again, for whatever else runs in that session
                atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
            else:
                shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch = None
        self._found = False

    # ── a session that was there before ──────────────────────────────────────────────────────────────────────────────

    def _find(self) -> "SparkSession | None":
        spark = self._given or running_session()
        if spark is None:
            return None
        self._found = True
        context = spark.sparkContext
        self._scratch = scratch.make(self._folder)
        try:
            context.addPyFile(str(scratch.package_zip(self._scratch)))
        except Exception as error:
            why = java_errors.java_reason(str(error))
            raise RunError(f"The Spark session that was there before cannot be used: {why}") from error
        log.info("Using the Spark session that was there before: Spark %s on %s", context.version, context.master)
        self._report_differences(spark, self.cluster)
        return spark

    def _report_differences(self, spark: "SparkSession", cluster: ClusterConfig) -> None:
        new = [text for text in differences(spark, cluster) if text not in self._reported]
        self._reported.update(new)
        if new:
            log.warning(
                "That Spark session is used as it is. It differs from cluster=%s: %s", cluster.name, "; ".join(new)
            )

    # ── a session of our own ─────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> "SparkSession":
        silence_py4j()
        if is_submitted():
            self._submitted = internals.submitted_properties()
        elif chosen_master(self.cluster) is None:
            raise UserError(
                "Expected spark-submit or a notebook's session, which cluster.master=null means. Received: neither. "
                "Set cluster.master=local[*] or spark://host:port, or start with spark-submit."
            )
        master = self._master(self.cluster)
        local_gpus.check(self.cluster, master)
        self._scratch = scratch.make(self._folder)
        scratch.fill(self._scratch)
        spark_log = self._folder / "logs" / "spark.log"
        spark = self._build(master, spark_log)
        context = spark.sparkContext
        context.addPyFile(str(scratch.package_zip(self._scratch)))
        self._found = is_submitted() and "DATABRICKS_RUNTIME_VERSION" in os.environ  # its sessions are the platform's
        if self._jvm is None:  # a JVM of somebody else's writes where its own settings say: to the terminal, mostly
            context.setLogLevel("WARN")
            log.info("Spark %s on %s", context.version, context.master)
        else:
            log.info("Spark %s on %s, its log in %s", context.version, context.master, spark_log)
        return spark

    def _build(self, master: str | None, spark_log: Path) -> "SparkSession":
        assert self._scratch is not None
        wanted = self._wanted(self.cluster, self._scratch)
        variables = environment.of_driver(self._python(self.cluster))
        starts_jvm = internals.gateway() is None
        if starts_jvm:
            own = environment.of_own_jvm(master, self._scratch)
            archive = class_archive.find(Path(str(own["JAVA_HOME"])), Path(str(own["SPARK_HOME"])))
            wanted |= jvm_properties(self.cluster, master, self._scratch, archive)
            wanted[OWN_LOG] = str(spark_log)
            variables |= own
        self._environment.enter_context(environment.changed(variables))
        if not starts_jvm:
            return _create(wanted, f"Spark did not start on {master}")
        spark_log.parent.mkdir(parents=True, exist_ok=True)
        with scratch.temporary_files_in(self._scratch):
            self._jvm = _start_jvm(wanted, spark_log)
        return _create(wanted, f"Spark did not start on {master} (its log: {spark_log})")

    def _master(self, cluster: ClusterConfig) -> str | None:
        """The master that is really used: with spark-submit the submitted one."""
        return self._submitted.get("spark.master") or chosen_master(cluster)

    def _python(self, cluster: ClusterConfig) -> str:
        """The interpreter of the executors: as for every property, that of the submission wins."""
        submitted = os.environ.get("PYSPARK_PYTHON") if is_submitted() else None
        return self._submitted.get("spark.pyspark.python") or cluster.python or submitted or sys.executable

    def _wanted(self, cluster: ClusterConfig, folder: Path) -> dict[str, str]:
        return properties(cluster, self._master(cluster), folder) | self._submitted

    def _identity(self, cluster: ClusterConfig) -> tuple[str, dict[str, str]]:
        return self._python(cluster), self._wanted(cluster, _ANYWHERE)


def differences(spark: "SparkSession", cluster: ClusterConfig) -> list[str]:
    """What jobs of ``cluster`` want and a session that was there before does not have, as ``key=value (wanted …)``."""
    context = spark.sparkContext
    wanted = job_properties(cluster, chosen_master(cluster))
    conf = dict(context.getConf().getAll())
    given = {key: conf.get(key, _SPARK_DEFAULTS.get(key, "unset")) for key in wanted} | {
        "spark.master": with_slots(context.master or "")
    }
    if cluster.python:
        wanted["cluster.python"], given["cluster.python"] = cluster.python, context.pythonExec
    return [f"{key}={given[key]} (wanted {value})" for key, value in wanted.items() if given[key] != value]


def running_session() -> "SparkSession | None":
    """The session of this process that somebody has started before; UserError when it has no barrier stages."""
    if internals.active_context() is not None:
        from pyspark.sql import SparkSession

        with environment.changed(environment.CLASSIC):
            return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    connect = sys.modules.get("pyspark.sql.connect.session")  # imported by whoever has made such a session
    if connect is not None and connect.SparkSession.getActiveSession() is not None:
        raise UserError(
            "Expected a classic Spark session: barrier stages need its RDDs. Received: a Spark Connect session. "
            "Use a cluster with dedicated access mode, or stop that session."
        )
    return None


def _start_jvm(wanted: dict[str, str], spark_log: Path) -> "JavaGateway":
    start = spark_log.stat().st_size if spark_log.exists() else 0
    try:
        return jvm.start(wanted, spark_log)
    except Exception as error:  # PySpark says no more than that the JVM has ended; why is in what it has written
        written = spark_log.read_bytes()[start:].decode("utf-8", errors="replace")
        why = java_errors.java_reason(written if written.strip() else str(error))
        raise RunError(f"Spark's Java did not start (its log: {spark_log}): {why}") from error


def _create(wanted: dict[str, str], failure: str) -> "SparkSession":
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for key, value in wanted.items():
        builder = builder.config(key, value)
    try:
        with _interrupt_handler_kept():
            return builder.getOrCreate()
    except Exception as error:  # mostly Py4J's, whose text is fetched from the JVM: later it would be gone
        text = str(error)
        raise RunError(f"{failure}: {java_errors.java_reason(text)}") from RuntimeError(text)


@contextlib.contextmanager
def _interrupt_handler_kept() -> Iterator[None]:
    """Keep PySpark's own handler of Ctrl-C out: it cancels every job at once, and ranks are to write a checkpoint."""
    before = signal.getsignal(signal.SIGINT)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)


def _stop(spark: "SparkSession") -> None:
    """Stop Spark, from a thread with its own connection: a signal may have interrupted a call of this thread."""
    from py4j.protocol import Py4JError

    try:
        run_interruptibly(spark.stop, limit=_STOP_SECONDS)
    except concurrent.futures.TimeoutError:
        log.warning("Spark did not stop within %g s; its Java process is ended", _STOP_SECONDS)
    except (OSError, Py4JError) as error:
        # A signal to the whole process group, as `timeout` and some schedulers send it, has ended the JVM already.
        log.debug("Spark was gone before it was stopped: %s", error)


def versions() -> dict[str, str]:
    """The releases that a run stands on, for its summary."""
    names = ("distributed-cls", "pyspark", "tensorflow", "keras", "numpy", "opencv-python-headless")
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
