"""Environment variables of a Spark that is started here: set for it, and put back when it has stopped."""

import codecs
import contextlib
import locale
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from distributed_cls.spark import scratch as scratch_folder
from distributed_cls.spark.java import java_home
from distributed_cls.spark.master import is_local_cluster, on_this_machine

log = logging.getLogger(__name__)

# Unset: each of them makes PySpark a Spark Connect client, which has no barrier stages of RDDs.
CLASSIC: dict[str, str | None] = dict.fromkeys(
    ("SPARK_REMOTE", "SPARK_API_MODE", "SPARK_CONNECT_MODE", "SPARK_CONNECT_MODE_ENABLED")
)

# PySpark sets these for its own Python code when a session starts.
_SET_BY_PYSPARK = ("SPARK_AUTH_SOCKET_TIMEOUT", "SPARK_BUFFER_SIZE")


def is_submitted() -> bool:
    """Whether spark-submit, or a platform, has started the JVM of this process already."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


@contextlib.contextmanager
def changed(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables while the block runs (None: unset them), then restore them."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def of_own_jvm(master: str | None, scratch: Path) -> dict[str, str | None]:
    """What a driver's JVM on ``master`` needs, whatever the machine's own settings are."""
    home = spark_home()
    if is_local_cluster(master):
        home = scratch_folder.linked_home(home, scratch)
    variables: dict[str, str | None] = {
        "JAVA_HOME": java_home(),
        "SPARK_HOME": str(home),
        # Of the driver alone: the executors' own scratch space is their cluster's business.
        "SPARK_LOCAL_DIRS": str(scratch),
    }
    if on_this_machine(master):
        variables["SPARK_LOCAL_IP"] = "127.0.0.1"
    if codecs.lookup(locale.nl_langinfo(locale.CODESET)).name == "ascii":
        # As Python does it in the C locale (PEP 538, PEP 540): Java would read every other letter of a path as "?".
        variables["LC_ALL"] = "C.UTF-8"
    return variables


def of_driver(python: str) -> dict[str, str | None]:
    """What this process needs for a session whose executors run ``python``; a name that is not used is said."""
    found = [name for name in CLASSIC if name in os.environ]
    if found:
        log.warning("%s is not used: barrier stages need a driver of their own, not Spark Connect.", ", ".join(found))
    unchanged = {name: os.environ.get(name) for name in _SET_BY_PYSPARK}
    return {**CLASSIC, **unchanged, "PYSPARK_PYTHON": python}


def spark_home() -> Path:
    """The Spark that fits the imported pyspark: $SPARK_HOME when its release is the same, else pyspark's own."""
    import pyspark
    from pyspark.find_spark_home import _find_spark_home

    given = os.environ.get("SPARK_HOME")
    if given and _release(Path(given)) == pyspark.__version__:
        return Path(given)
    with changed({"SPARK_HOME": None}):
        own = Path(_find_spark_home())
    if given:
        found = _release(Path(given)) or "no Spark"
        log.warning("SPARK_HOME=%s is not used: it holds %s, pyspark is %s.", given, found, pyspark.__version__)
    return own


def _release(home: Path) -> str | None:
    """The release of the Spark in ``home``; a vendor's suffix ("-amzn-1") does not count."""
    jars = sorted(path.name for path in home.glob("jars/spark-core_*.jar"))
    match = re.fullmatch(r"spark-core_[\d.]+-([\d.]+).*\.jar", jars[0]) if jars else None
    return match[1].rstrip(".") if match else None
