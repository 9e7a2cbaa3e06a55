"""One line out of the pages that Java, Py4J and Spark's Python workers write."""

from distributed_cls.spark.java_errors import java_reason, logged_reason, task_reason

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


def test_what_a_worker_raised_is_the_reason_of_a_stage() -> None:
    found = task_reason(RuntimeError(_WORKER))
    assert (
        found
        == "distributed_cls.barrier.agent.RankFailed: rank 1 on 10.0.0.2 ended with signal SIGKILL (out of memory?)"
    )


def test_without_a_worker_java_says_it_with_its_root_cause() -> None:
    assert java_reason(RuntimeError(_REFUSED)) == (
        "SparkException: Failed to connect to driver at node-1:7077; caused by "
        "AbstractChannel$AnnotatedConnectException: Connection refused: node-1/10.0.0.1:7077"
    )
    assert "Message: Unauthorized." in task_reason(RuntimeError(_TOKEN))


def test_any_other_text_is_its_first_line() -> None:
    assert task_reason(RuntimeError("\nJob 3 cancelled because SparkContext was shut down\n\tat x.y.Z")) == (
        "Job 3 cancelled because SparkContext was shut down"
    )
    assert java_reason(None) == task_reason(RuntimeError("")) == "no reason given"
    assert len(java_reason("x" * 5000)) == 500


def test_a_jvm_that_has_ended_says_why_in_its_log() -> None:
    log = """10:00:00 WARN NativeCodeLoader: Unable to load
Exception in thread "main" org.apache.spark.SparkException: Master must either be yarn or start with spark, or local
\tat org.apache.spark.deploy.SparkSubmit.error(SparkSubmit.scala:1)
"""
    assert str(logged_reason(log)).endswith("SparkException: Master must either be yarn or start with spark, or local")
    assert logged_reason("10:00:00 WARN all is well") is None
