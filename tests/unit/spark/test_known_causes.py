"""What Spark 4.3 really says of lost executors, closed ports and missing slots, on YARN and elsewhere; their stacks
are shortened."""

import pytest

from distributed_cls.spark.java_errors import java_reason, task_reason
from distributed_cls.spark.known_causes import known_cause, lost_executor

_COLLECT = "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n: "
_BARRIER = (
    f"{_COLLECT}org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed "
    "barrier ResultStage. Most recent failure reason: Stage failed because barrier task ResultTask(0, 0) finished "
    "unsuccessfully.\nExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: "
)
_STACK = """\tat org.apache.spark.scheduler.DAGScheduler.$anonfun$abortStage$3(DAGScheduler.scala:4568)
\tat scala.Option.getOrElse(Option.scala:201)
"""
MEMORY = (
    f"{_BARRIER}Container killed by YARN for exceeding physical memory limits. 960.7 MB of 896 MB physical memory "
    f"used. Consider boosting spark.executor.memoryOverhead.\n{_STACK}"
)
MEMORY_OF_A_TASK = (
    f"{_COLLECT}org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 2 times, "
    "most recent failure: Lost task 0.1 in stage 1.0 (TID 3) (localhost executor 2): ExecutorLostFailure (executor 2 "
    "exited caused by one of the running tasks) Reason: Container killed by YARN for exceeding physical memory limits. "
    "910.8 MB of 896 MB physical memory used. Consider boosting spark.executor.memoryOverhead.\n"
    f"Driver stacktrace:\n{_STACK}"
)
KILLED = (
    f"{_BARRIER}Container from a bad node: container_1795778560680_0006_01_000006 on host: localhost. Exit status: "
    "137. Possible causes: Unknown executor exit code (137) (died from signal 9?) Diagnostics: "
    "[2026-11-27 12:04:38.155]Container killed on request. Exit code is 137\n"
    f"[2026-11-27 12:04:38.156]Killed by external signal\n.\n{_STACK}"
)
SLOTS = (
    f"{_COLLECT}org.apache.spark.scheduler.BarrierJobSlotsNumberCheckFailed: [SPARK-24819]: Barrier execution mode "
    "does not allow run a barrier stage that requires more slots than the total number of slots in the cluster "
    f"currently. Please init a new cluster with more resources(e.g. CPU, GPU) or repartition the input RDD(s)\n{_STACK}"
)
HDFS = f"""An error occurred while calling o63.text.
: java.net.ConnectException: Call From vm/127.0.0.1 to localhost:1 failed on connection exception: \
java.net.ConnectException: Connection refused; For more details see:  http://wiki.apache.org/hadoop/ConnectionRefused
{_STACK}Caused by: java.net.ConnectException: Connection refused
{_STACK}"""
KUBERNETES = f"""An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: io.fabric8.kubernetes.client.KubernetesClientException: An error has occurred.
{_STACK}Caused by: java.io.IOException: Connection refused: localhost/127.0.0.1:1
{_STACK}\t... 20 more
Caused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: localhost/127.0.0.1:1
Caused by: java.net.ConnectException: Connection refused
"""
SHUT_DOWN = f"{_COLLECT}org.apache.spark.SparkException: Job 0 cancelled because SparkContext was shut down\n{_STACK}"
STANDALONE = """An error occurred while calling None.org.apache.spark.sql.classic.SparkSession.
: java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.
This stopped SparkContext was created at:

org.apache.spark.api.java.JavaSparkContext.<init>(JavaSparkContext.scala:59)

And it was stopped at:

org.apache.spark.SparkContext$$anon$3.run(SparkContext.scala:2298)
"""
YARN = f"""An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: java.net.ConnectException: Call From vm/127.0.0.1 to localhost:1 failed on connection exception: \
java.net.ConnectException: Connection refused; For more details see:  http://wiki.apache.org/hadoop/ConnectionRefused
{_STACK}Caused by: java.net.ConnectException: Connection refused
\t... 35 more
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHUT_DOWN, ["The SparkContext was stopped:", "somebody has killed the application"]),
        (STANDALONE, ["The SparkContext was stopped: no master answered at its address"]),
        (YARN, ["Nothing listens at localhost:1 (connection refused)."]),
        (MEMORY, ["it used 960.7 MB of 896 MB", "raise spark.executor.memoryOverhead"]),
        (MEMORY_OF_A_TASK, ["it used 910.8 MB of 896 MB", "raise spark.executor.memoryOverhead"]),
        (KILLED, ["on localhost was killed (SIGKILL), not by YARN"]),
        (SLOTS, ["fewer slots than the barrier stage has ranks", "set fewer cluster.workers"]),
        (HDFS, ["Nothing listens at localhost:1 (connection refused)."]),
        (KUBERNETES, ["Nothing listens at localhost/127.0.0.1:1 (connection refused)."]),
    ],
)
def test_the_cause_and_the_remedy_are_one_line(text: str, said: list[str]) -> None:
    found = known_cause(text)
    assert found is not None and "\n" not in found and len(found) < 300
    assert all(part in found for part in said), found
    assert task_reason(RuntimeError(text)) == java_reason(text) == found


def test_a_lost_executor_counts_more_than_what_another_task_said() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "agent.py", line 1, in run\n    x()\nOSError: peer is gone\n'
    )
    assert "960.7 MB of 896 MB" in task_reason(RuntimeError(MEMORY + traceback))
    assert task_reason(RuntimeError(f"Connection refused: node:1\n{traceback}")) == "OSError: peer is gone"


def test_what_is_not_known_stays_spark_s_own_word() -> None:
    text = f"{_COLLECT}org.apache.spark.SparkException: Something new.\n{_STACK}"
    assert known_cause(text) is None and lost_executor(SLOTS) is None
    assert java_reason(text) == "SparkException: Something new."
