"""YARN's attempts at an application: in cluster mode it starts a driver again that has failed, for whatever reason.

What only the user can put right fails again, after as long a time. So the first attempt leaves its line in the
application's staging folder, which YARN's clients have in HDFS and which goes with the application, and the next one
says it and ends.
"""

import contextlib
import os
from typing import TYPE_CHECKING, Any

from distributed_cls.errors import UserError
from distributed_cls.spark import internals
from distributed_cls.spark.interruptible import silence_py4j

if TYPE_CHECKING:
    from py4j.java_gateway import JVMView

_FILE = "distributed_cls-refused.txt"


def remember_refusal(line: str) -> None:
    """Leave ``line`` for later attempts of this application; nothing outside of YARN's cluster mode."""
    folder = os.environ.get("SPARK_YARN_STAGING_DIR")
    if folder is None:
        return
    with contextlib.suppress(Exception):  # the second attempt then finds it out by itself
        store, path = _file(folder, internals.jvm())
        stream = store.create(path)
        stream.write(bytearray(line.encode("utf-8")))
        stream.close()


def refuse_again() -> None:
    """Raise UserError with the line that an earlier attempt of this application has left."""
    folder = os.environ.get("SPARK_YARN_STAGING_DIR")
    if folder is None or attempt_number(os.environ.get("CONTAINER_ID", "")) < 2:
        return
    store, path = _file(folder, internals.jvm())
    if store.exists(path):
        stream = store.open(path)
        line = bytes(stream.readAllBytes()).decode("utf-8")
        stream.close()
        raise UserError(f"{line} (YARN's second attempt; the first one ended so)")


def attempt_number(container: str) -> int:
    """The attempt in a container's name, ``container_<cluster>_<application>_<attempt>_<number>``; 1 in any other."""
    parts = container.split("_")
    return int(parts[-2]) if len(parts) >= 5 and parts[-2].isdigit() else 1


def _file(folder: str, jvm: "JVMView") -> tuple[Any, Any]:
    silence_py4j()  # the connection is closed when the process ends, of which it would write a stack trace
    path = jvm.org.apache.hadoop.fs.Path(folder, _FILE)
    return path.getFileSystem(jvm.org.apache.hadoop.conf.Configuration()), path
