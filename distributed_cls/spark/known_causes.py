"""Failures whose cause and remedy Spark's own words give away, told in one line. Pure functions of a text."""

import re

_OVERHEAD = "TensorFlow's memory is outside of Java's heap: raise spark.executor.memoryOverhead (cluster.spark)."

# What is found in a text, and what it means; {names} are those of the pattern's groups.
_LOST_EXECUTOR = (
    (
        r"Container killed by YARN for exceeding \w+ memory limits\. (?P<used>[\d.]+ \w+) of (?P<limit>[\d.]+ \w+)",
        "YARN has killed an executor for its memory: it used {used} of {limit}. " + _OVERHEAD,
    ),
    (
        r"137\s?\(SIGKILL, possible container OOM\)|OOMKilled",
        "The pod of an executor was killed (SIGKILL), mostly for its memory limit{of_limit}, which is the sum of "
        "spark.executor.memory and spark.executor.memoryOverhead. " + _OVERHEAD,
    ),
    (
        r"Container from a bad node: \S+ on host: (?P<host>\S+)\. Exit status: 137\.",
        "The container of an executor on {host} was killed (SIGKILL), not by YARN: by somebody, or by a kernel without "
        "memory, whose log on {host} says so.",
    ),
)
_OTHERS = (
    (
        r"BarrierJobSlotsNumberCheckFailed|\[SPARK-24819\]",
        "Spark has fewer slots than the barrier stage has ranks (SPARK-24819): an executor is lost, or other jobs hold "
        "its cores. Wait until it is replaced, or set fewer cluster.workers.",
    ),
    (
        r"SparkContext was shut down|stopped SparkContext",
        "The SparkContext was stopped: no master answered at its address, the driver has lost the cluster, or somebody "
        "has killed the application. Spark's log and the cluster's page of the application say which.",
    ),
    (
        r"(?i)at:? (?P<where>https?://[^/\s]+)\S*\s+Message: Unauthorized",
        "The server at {where} does not accept the credentials (401 Unauthorized): the token or the certificate is "
        "wrong or has expired.",
    ),
    (
        r"(?:Call From \S+ to |Connection refused: )(?P<where>[^\s;]+:\d+)",
        "Nothing listens at {where} (connection refused). Check the address, and whether the service runs there.",
    ),
    (
        r"UnknownHostException: (?P<host>[^\s:;]+)",
        "No machine is known here by the name {host}. Check the address, and the name service of this machine.",
    ),
)


def lost_executor(text: str, limit: str | None = None) -> str | None:
    """Why an executor was lost, which counts more than what its tasks said; None when the text does not tell.

    limit: the memory limit of an executor's pod, where it is known.
    """
    return _first(_LOST_EXECUTOR, text, f" of {limit}" if limit else "")


def known_cause(text: str) -> str | None:
    """The cause of a failure of Spark or of the cluster, with what to do; None for one that is not known here."""
    return _first((*_LOST_EXECUTOR, *_OTHERS), text)


def _first(causes: tuple[tuple[str, str], ...], text: str, of_limit: str = "") -> str | None:
    for pattern, meaning in causes:
        if found := re.search(pattern, text):
            return meaning.format(**found.groupdict(), of_limit=of_limit)
    return None
