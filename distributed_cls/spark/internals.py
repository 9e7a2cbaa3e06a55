"""The parts of PySpark without a public API that this package needs, all of them, so that a new release is one file.

Why each is needed: Spark publishes to Python neither the number of tasks that it can run at once (its own barrier check
counts it by ``maxNumConcurrentTasks``), nor that of its executors, nor how their pods are, nor whether an application
has ended, nor the JVM that a Python process is connected to, nor a way to let go of one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway, JVMView
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession


def max_concurrent_tasks(spark: "SparkSession", profile: "ResourceProfile | None" = None) -> int:
    """Tasks of a resource profile (None: the session's own) that can run at once now, with their cores and GPUs."""
    context = spark.sparkContext._jsc.sc()
    manager = context.resourceProfileManager()
    if profile is None:
        return int(context.maxNumConcurrentTasks(manager.defaultResourceProfile()))
    manager.addResourceProfile(profile._java_resource_profile)  # without effect when it is known
    return int(context.maxNumConcurrentTasks(profile._java_resource_profile))


def executors(spark: "SparkSession") -> int:
    """Executors that have registered by now; none on a local master."""
    return int(spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size()) - 1  # the driver is among them


def executor_pods(spark: "SparkSession") -> str:
    """The pods of a session's executors on Kubernetes, a PodList as JSON, by the client and the rights of Spark itself.

    Raises whatever the client does when the API server does not answer, or refuses.
    """
    context = spark.sparkContext
    client = context._jsc.sc().schedulerBackend().kubernetesClient()
    pods = client.pods().withLabel("spark-app-selector", context.applicationId).withLabel("spark-role", "executor")
    return str(client.getKubernetesSerialization().asJson(pods.list()))


def is_stopped(spark: "SparkSession") -> bool:
    """Whether the session's application has ended, as its JVM tells; a JVM that does not answer has ended too."""
    from py4j.protocol import Py4JError

    try:
        return spark.sparkContext._jsc is None or bool(spark.sparkContext._jsc.sc().isStopped())
    except (OSError, Py4JError):
        return True


def active_context() -> "SparkContext | None":
    """The running ``SparkContext`` of this process, whoever started it."""
    from pyspark import SparkContext

    return SparkContext._active_spark_context


def gateway() -> "JavaGateway | None":
    """The connection of this process to a JVM, whoever started it."""
    from pyspark import SparkContext

    return SparkContext._gateway


def jvm() -> "JVMView":
    """The Java classes of the JVM that spark-submit has started."""
    from pyspark import SparkContext

    SparkContext._ensure_initialized()
    return SparkContext._jvm


def connect(gateway: "JavaGateway") -> None:
    """Let PySpark use a JVM that was started for it."""
    from pyspark import SparkContext

    SparkContext._ensure_initialized(gateway=gateway)


def submitted_properties() -> dict[str, str]:
    """The properties of the JVM that spark-submit has started."""
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def forget_jvm() -> None:
    """Let the next session start a JVM: PySpark itself keeps one for as long as the process lives."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    SparkContext._gateway = SparkContext._jvm = None
    # Left behind when stopping was cut short; the next session would take it for one that runs.
    SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None
    SparkSession._activeSession = None
