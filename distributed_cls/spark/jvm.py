"""The driver's JVM: its start, with its output in a log file, and its end."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls.spark import internals

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway


def start(properties: dict[str, str], output: Path) -> "JavaGateway":
    """Start a JVM with ``properties`` and connect to it. Its standard output and error are appended to ``output``.

    Python workers that it starts inherit them; this process keeps its own, so that a progress bar goes on.
    """
    from pyspark import SparkConf
    from pyspark.java_gateway import launch_gateway

    conf = SparkConf(loadDefaults=False)
    for key, value in properties.items():
        conf.set(key, value)
    with output.open("ab") as stream:
        gateway = launch_gateway(conf, popen_kwargs={"stdout": stream, "stderr": stream})
    internals.connect(gateway)
    return gateway


def end(gateway: "JavaGateway", seconds: float) -> None:
    """End a JVM that ``start`` has started, and wait for it; killed after so many seconds."""
    process: subprocess.Popen[bytes] = gateway.proc
    if process.poll() is None:
        gateway.shutdown()
    if process.stdin is not None:
        process.stdin.close()  # end of file is the JVM's sign to exit
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    internals.forget_jvm()
