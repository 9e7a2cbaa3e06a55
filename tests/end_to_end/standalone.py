"""A standalone cluster of the tests' own: a master and workers, one process each, on the loopback interface."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyspark

from distributed_cls.spark.java import java_home
from distributed_cls.spark.properties import LOCAL_JAVA
from tests.end_to_end.conftest import wait_for
from tests.patience import PATIENCE

SPARK_HOME = Path(pyspark.__file__).parent
_DEPLOY = "org.apache.spark.deploy"


def environment() -> dict[str, str]:
    """Of what is started without our launcher."""
    # Whatever this process has imported before may have hidden the GPUs of a worker that is to have some.
    return {
        **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
        "JAVA_HOME": java_home(),
        # Many Javas on few cores, each of them for a minute. Executors inherit it from their worker.
        "JAVA_TOOL_OPTIONS": LOCAL_JAVA,
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


class Standalone:
    """A master at ``url`` and the workers that were added, with their logs in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the master; return when it has an address."""
        self._log = self._run("master", "master.Master", "--port", "0")
        self.url: str = wait_for(lambda: _word_after(self._log, "Starting Spark master at "), "the master")

    def add_worker(
        self, cores: int = 1, within: Sequence[str] = (), properties: Mapping[str, str] | None = None
    ) -> None:
        """Start a worker that ``within`` (a command such as ``unshare``) starts; return when it has registered.

        properties: of the worker, such as what it has of GPUs.
        """
        self._workers += 1
        name = f"worker-{self._workers}"
        settings = self._folder / f"{name}.conf"
        settings.write_text("".join(f"{key} {value}\n" for key, value in (properties or {}).items()), encoding="utf-8")
        place = ["-c", str(cores), "-m", "1g", "-d", str(self._folder / name), "--properties-file", str(settings)]
        self._run(name, "worker.Worker", *place, self.url, within=within)
        wait_for(lambda: self._log.read_text().count("Registering worker") == self._workers, name)

    def stop(self) -> None:
        for process in reversed(self._processes):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=PATIENCE)

    def _run(self, name: str, role: str, *arguments: str, within: Sequence[str] = ()) -> Path:
        log = self._folder / f"{name}.log"
        command = [*within, str(SPARK_HOME / "bin" / "spark-class"), f"{_DEPLOY}.{role}", "--host", "127.0.0.1"]
        with log.open("wb") as stream:
            self._processes.append(
                subprocess.Popen(
                    [*command, "--webui-port", "0", *arguments],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                    start_new_session=True,
                )
            )
        return log


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Standalone]:
    """A master without workers, until the block ends."""
    cluster = Standalone(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _word_after(log: Path, words: str) -> str | None:
    _, found, rest = log.read_text().partition(words)
    return rest.split()[0] if found and rest.split() else None
