"""One line out of the pages that Java, Py4J and Spark's Python workers write."""

import pytest

from distributed_cls.spark.java_errors import java_reason, task_reason

_WORKER = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier \
ResultStage. Most recent failure reason: Stage failed because barrier task ResultTask(3, 1) finished unsuccessfully.
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/opt/spark/python/worker.py", line 1245, in main
    process()
    ~~~~~~~^^
distributed_cls.barrier.agent.RankFailed: rank 1 on 10.0.0.2 ended with signal SIGKILL (out of memory?)

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:581)
"""

_REFUSED = """An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: org.apache.spark.SparkException: Failed to connect to driver at node-1:7077
\tat org.apache.spark.deploy.Client.start(Client.scala:1)
Caused by: java.io.IOException: Failed to connect to node-1/10.0.0.1:7077
\tat org.apache.spark.network.client.TransportClientFactory.createClient(TransportClientFactory.java:294)
Caused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: node-1/10.0.0.1:7077
"""

_TOKEN = """An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: org.apache.spark.SparkException: External scheduler cannot be instantiated
Caused by: io.fabric8.kubernetes.client.KubernetesClientException: GET at https://10.0.0.1:6443/api. \
Message: Unauthorized.
"""


_STACK = """\tat org.apache.spark.SparkContext$.createTaskScheduler(SparkContext.scala:3294)
\tat org.apache.spark.api.java.JavaSparkContext.<init>(JavaSparkContext.scala:59)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""
_PY4J = "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n: "

_MASTER = f"{_PY4J}org.apache.spark.SparkException: Could not parse Master URL: 'spar://x'\n{_STACK}"

_PORT = (
    f"{_PY4J}java.net.BindException: Cannot assign requested address: Service 'sparkDriver' failed after 16 retries "
    "(on a random free port)! Consider explicitly setting the appropriate binding address for the service "
    f"'sparkDriver' (for example spark.driver.bindAddress for SparkDriver) to the correct binding address.\n{_STACK}"
)

_KUBERNETES = f"""{_PY4J}org.apache.spark.SparkException: External scheduler cannot be instantiated
{_STACK}Caused by: org.apache.spark.SparkException: Something on the way
{_STACK}\t... 13 more
Caused by: io.fabric8.kubernetes.client.KubernetesClientException: Failure executing: GET at: \
https://10.88.0.1:6443/api/v1/namespaces/default/pods/driver. Message: Unauthorized. Received status: Status(code=401).
{_STACK}\t... 17 more
"""

# LC_ALL=C in a folder with an umlaut.
_LOCALE = f"""{_PY4J}java.lang.NoClassDefFoundError: Could not initialize class \
java.lang.management.ManagementFactory$PlatformMBeanFinder
{_STACK}Caused by: java.lang.ExceptionInInitializerError: Exception java.lang.ExceptionInInitializerError \
[in thread "main"]
{_STACK}"""

_SUBMIT = f"""WARNING: Using incubator modules: jdk.incubator.vector
07:01:02 WARN NativeCodeLoader: Unable to load native-hadoop library for your platform...
Exception in thread "main" org.apache.spark.SparkException: When running with master 'yarn' either HADOOP_CONF_DIR \
or YARN_CONF_DIR must be set in the environment.
{_STACK}"""

_VM = """Picked up JAVA_TOOL_OPTIONS: -Xshare:auto
Invalid maximum heap size: -Xmxnonsense
Error: Could not create the Java Virtual Machine.
Error: A fatal exception has occurred. Program will exit.
"""

_LOST = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier \
ResultStage. Most recent failure reason: Stage failed because barrier task ResultTask(3, 1) finished unsuccessfully.
ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: worker lost
\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2935)
"""


def test_what_a_worker_raised_is_the_reason_of_a_stage() -> None:
    found = task_reason(RuntimeError(_WORKER))
    assert (
        found
        == "distributed_cls.barrier.agent.RankFailed: rank 1 on 10.0.0.2 ended with signal SIGKILL (out of memory?)"
    )


def test_the_words_that_spark_puts_before_a_traceback_are_not_the_reason() -> None:
    words = "PythonException: [PYTHON_EXCEPTION] An exception was thrown from the Python worker: Traceback"
    text = _WORKER.replace("PythonException: Traceback", words).replace("memory?)", "memory?)\n SQLSTATE: 38000")
    assert words in text
    assert task_reason(RuntimeError(text)) == task_reason(RuntimeError(_WORKER))


def test_of_a_chain_of_python_errors_the_last_is_the_reason() -> None:
    chain = _WORKER.replace(
        "distributed_cls.barrier",
        "KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    f()\ndistributed_cls.barrier',
    )
    assert task_reason(RuntimeError(chain)) == task_reason(RuntimeError(_WORKER))


def test_without_a_worker_java_says_it_with_its_root_cause() -> None:
    refused = _REFUSED.replace("Connection refused", "Connection reset")
    assert java_reason(RuntimeError(refused)) == (
        "SparkException: Failed to connect to driver at node-1:7077; caused by "
        "AbstractChannel$AnnotatedConnectException: Connection reset: node-1/10.0.0.1:7077"
    )


def test_any_other_text_is_its_first_line() -> None:
    assert task_reason(RuntimeError("\nJob 3 cancelled because I wished it\n\tat x.y.Z")) == (
        "Job 3 cancelled because I wished it"
    )
    assert java_reason(None) == task_reason(RuntimeError("")) == "no reason given"
    assert len(java_reason("x" * 5000)) == 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_MASTER, "SparkException: Could not parse Master URL: 'spar://x'"),
        (_PORT, "BindException: Cannot assign requested address: Service 'sparkDriver' failed after 16 retries"),
        (_REFUSED, "Nothing listens at node-1/10.0.0.1:7077 (connection refused)."),
        (_TOKEN, "The server at https://10.0.0.1:6443 does not accept the credentials (401 Unauthorized)"),
        (_KUBERNETES, "The server at https://10.88.0.1:6443 does not accept the credentials (401 Unauthorized)"),
        (_LOCALE, "NoClassDefFoundError: Could not initialize class java.lang.management.ManagementFactory$Platform"),
        (_SUBMIT, "SparkException: When running with master 'yarn' either HADOOP_CONF_DIR or YARN_CONF_DIR must"),
        (_VM, "Invalid maximum heap size: -Xmxnonsense"),
        (_LOST, "SparkException: Job aborted due to stage failure: Could not recover from a failed barrier"),
        ("/x/bin/spark-class: line 71: /no/java: No such file or directory\n", "/x/bin/spark-class: line 71: /no/java"),
        (f'{_MASTER}\nException in thread "main" java.lang.IllegalStateException: later\n', "IllegalStateException: l"),
        (": java.lang.NullPointerException\n\tat x.Y.z(Y.java:1)\n", "NullPointerException"),
        ("10:00:00 WARN all is well\n", "no reason given"),
    ],
)
def test_java_says_what_happened_in_an_exception_or_a_log(text: str, said: str) -> None:
    found = java_reason(text)
    assert found.startswith(said)
    assert "\n" not in found and "scala:" not in found and "An error occurred while calling" not in found


@pytest.mark.parametrize(
    "outer", ["java.lang.RuntimeException: java.io.IOException: disk full", "x.y.AnError: disk full"]
)
def test_a_cause_that_is_said_already_is_not_repeated(outer: str) -> None:
    said = outer.removeprefix("java.lang.").removeprefix("x.y.")
    assert java_reason(f": {outer}\nCaused by: java.io.IOException: disk full\n") == said
