"""The Spark properties of a cluster: what its jobs need, and what belongs to a JVM that is started here. Pure."""

import shlex
from pathlib import Path

from distributed_cls.config import ClusterConfig
from distributed_cls.spark.master import on_this_machine, with_slots
from distributed_cls.spark.resources import EXECUTOR_GPUS

# On a local master Java hands work to Python processes on the same cores, and should leave these to them: the quick
# compiler and the collector without threads of its own. Spark's start and two small jobs then take 0.5 to 0.6 of the
# CPU time that they take with Java's defaults.
LOCAL_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

GPU_SCRIPT = "find_gpus.sh"
LOG4J_FILE = "log4j2.properties"

OWN_LOG = "spark.distributed_cls.log"  # the file that a JVM of ours writes its log to
JAVA_OPTIONS = "spark.driver.extraJavaOptions"


def chosen_master(cluster: ClusterConfig) -> str | None:
    """The master of the configuration: a ``spark.master`` of the user's own properties wins."""
    master = cluster.spark.get("spark.master") or cluster.master
    return with_slots(master) if master else None


def properties(cluster: ClusterConfig, master: str | None, scratch: Path) -> dict[str, str]:
    """Every property of a session of ``cluster`` on ``master``; the user's own (``cluster.spark``) win.

    ``scratch``: the folder of Spark's temporary files, see ``scratch.fill``.
    """
    wanted = {
        "spark.app.name": "distributed_cls",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.showConsoleProgress": "false",
        # Preparation is bound by decoding, not by shuffles of millions of rows.
        "spark.sql.shuffle.partitions": "8",
        **job_properties(cluster, master),
    }
    if on_this_machine(master):
        wanted |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    if master == "yarn":
        # Hadoop's clients otherwise look for a ResourceManager that is not there for a quarter of an hour.
        wanted["spark.hadoop.yarn.resourcemanager.connect.max-wait.ms"] = str(round(cluster.slot_timeout * 1000))
    if cluster.gpus_per_worker and on_this_machine(master):
        wanted |= _local_gpu_properties(cluster, scratch)
    return wanted | _own(cluster)


def job_properties(cluster: ClusterConfig, master: str | None) -> dict[str, str]:
    """Those without which jobs of ``cluster`` fail or wait too long, also in a session that is not ours."""
    wanted = {
        # Barrier stages: no dynamic allocation (SPARK-24942), and quick answers instead of hour-long waits.
        "spark.dynamicAllocation.enabled": "false",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "5",
        "spark.barrier.sync.timeout": str(round(cluster.rendezvous_timeout)),
        "spark.task.maxFailures": "2",
    }
    if master:
        wanted["spark.master"] = master
    if cluster.gpus_per_worker:
        # The distributor reads CUDA_VISIBLE_DEVICES as well as it sets it: a worker that was used before would give the
        # second attempt an index into the one device of the first.
        wanted["spark.python.worker.reuse"] = "false"
    return wanted | _own(cluster)


def jvm_properties(
    cluster: ClusterConfig, master: str | None, scratch: Path, class_archive: Path | None = None
) -> dict[str, str]:
    """Of a driver's JVM that is started here: they take effect only when it starts. The user's options come last.

    ``class_archive``: one that has been made (``class_archive.py``). ``scratch`` has no spaces or quotes
    (``scratch.make``), so the options need none either.
    """
    options = [
        *([LOCAL_JAVA] if on_this_machine(master) else []),
        "-XX:-UsePerfData",  # no files in the machine's temporary folder
        f"-Djava.io.tmpdir={scratch}",
        f"-Dlog4j2.configurationFile=file:{scratch / LOG4J_FILE}",
        *([f"-XX:SharedArchiveFile={shlex.quote(str(class_archive))}"] if class_archive else []),
        *filter(None, [cluster.spark.get(JAVA_OPTIONS)]),
    ]
    return {JAVA_OPTIONS: " ".join(options)}


def _own(cluster: ClusterConfig) -> dict[str, str]:
    return {key: str(value) for key, value in cluster.spark.items() if key != "spark.master"}


def _local_gpu_properties(cluster: ClusterConfig, scratch: Path) -> dict[str, str]:
    """How Spark's one worker here finds its GPUs; on a real cluster its administrator has set this."""
    total = str(cluster.workers * cluster.gpus_per_worker)
    return {
        EXECUTOR_GPUS: total,
        "spark.worker.resource.gpu.amount": total,
        "spark.worker.resource.gpu.discoveryScript": str(scratch / GPU_SCRIPT),
    }
