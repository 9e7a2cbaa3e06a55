"""One line out of what Java wrote. The texts are Spark's own, shortened in the middle of their stacks."""

import pytest

from distributed_cls.spark.java_errors import reason

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

_TOKEN = f"""{_PY4J}org.apache.spark.SparkException: External scheduler cannot be instantiated
{_STACK}Caused by: org.apache.spark.SparkException: Something on the way
{_STACK}\t... 13 more
Caused by: io.fabric8.kubernetes.client.KubernetesClientException: Failure executing: GET at: \
https://10.88.0.1:6443/api/v1/namespaces/default/pods/driver. Message: Unauthorized. Received status: Status(code=401).
{_STACK}\t... 17 more
"""

# LC_ALL=C in a folder with an umlaut: the outer exceptions have no message but that of their causes.
_LOCALE = f"""{_PY4J}java.lang.ExceptionInInitializerError
{_STACK}Caused by: java.nio.file.InvalidPathException: Malformed input or input contains unmappable characters: M??ller
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

_TASK = f"""An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 2 times, most recent \
failure: Lost task 0.1 in stage 1.0 (TID 2) (127.0.0.1 executor driver): org.apache.spark.api.python.PythonException: \
Traceback (most recent call last):
  File "/opt/spark/python/worker.py", line 1245, in main
    process()
    ~~~~~~~^^
distributed_cls.errors.UserError: Expected 2. Received: 3.

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:581)
{_STACK}Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/opt/spark/python/worker.py", line 1245, in main
    process()
    ~~~~~~~^^
distributed_cls.errors.UserError: Expected 2. Received: 3.
"""

_LOST = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier \
ResultStage. Most recent failure reason: Stage failed because barrier task ResultTask(3, 1) finished unsuccessfully.
ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: worker lost
\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2935)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_MASTER, "SparkException: Could not parse Master URL: 'spar://x'"),
        (_PORT, "BindException: Cannot assign requested address: Service 'sparkDriver' failed after 16 retries"),
        (
            _TOKEN,
            "SparkException: External scheduler cannot be instantiated (cause: KubernetesClientException: Failure "
            "executing: GET at: https://10.88.0.1:6443/api/v1/namespaces/default/pods/driver. Message: Unauthorized.",
        ),
        (_LOCALE, "ExceptionInInitializerError (cause: InvalidPathException: Malformed input or input contains"),
        (_SUBMIT, "SparkException: When running with master 'yarn' either HADOOP_CONF_DIR or YARN_CONF_DIR must"),
        (_VM, "Invalid maximum heap size: -Xmxnonsense"),
        (_TASK, "UserError: Expected 2. Received: 3."),
        (_LOST, "SparkException: Job aborted due to stage failure: Could not recover from a failed barrier"),
        ("/x/bin/spark-class: line 71: /no/java: No such file or directory\n", "/x/bin/spark-class: line 71: /no/java"),
        ("\nJob 3 cancelled because SparkContext was shut down\n\tat x.y.Z", "Job 3 cancelled because SparkContext"),
        (f'{_MASTER}\nException in thread "main" java.lang.IllegalStateException: later\n', "IllegalStateException"),
        (": java.io.IOException: disk\nCaused by: java.io.IOException: disk\n", "IOException: disk"),
        ("", "no reason given"),
    ],
)
def test_the_reason_is_the_exception_itself(text: str, said: str) -> None:
    found = reason(text)
    assert found.startswith(said)
    assert "\n" not in found and "scala:" not in found and "An error occurred while calling" not in found


def test_a_cause_that_is_said_already_is_not_repeated() -> None:
    same = ": java.lang.RuntimeException: java.io.IOException: disk full\nCaused by: java.io.IOException: disk full\n"
    assert reason(same) == "RuntimeException: java.io.IOException: disk full"


def test_a_long_reason_is_cut() -> None:
    assert len(reason("x" * 5000)) == 400
    assert reason(f": java.lang.Error: {'x' * 5000}").endswith("…")
