"""Sessions of a real Spark: one that was there before, and one of our own in a place that Java reads wrongly."""

import json
import logging
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_cls import __version__
from distributed_cls.config import ClusterConfig
from distributed_cls.errors import RunError
from distributed_cls.spark import class_archive, stage
from distributed_cls.spark import environment as environment_of_spark
from distributed_cls.spark.java import java_home
from distributed_cls.spark.session import Session
from tests.patience import PATIENCE
from tests.spark.prepare_support import small_spark

ROOT = Path(__file__).resolve().parents[2]


def test_a_session_that_was_there_before_is_used_and_left_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster = ClusterConfig(master="local[2]", rendezvous_timeout=45)

    def versions(items: Iterable[int]) -> Iterator[str]:  # of a function's own: workers do not see this module
        from distributed_cls import __version__

        yield from (f"{item} {__version__}" for item in items)

    with small_spark() as before:
        environment = dict(os.environ)
        session = Session(cluster, tmp_path)
        assert session.spark is before
        assert "Using the Spark session that was there before" in caplog.text
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(told) == 1 and "spark.barrier.sync.timeout=365d (wanted 45)" in told[0]
        assert "dynamicAllocation" not in told[0], "off is Spark's default"
        assert session.fits(cluster) and session.fits(
            ClusterConfig(master="local[2]", rendezvous_timeout=45, workers=1)
        )
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1, "said once"
        session.stop()
        # Neither Spark nor the package on its executors is gone.
        assert stage.run(before, "numbers", versions, [7, 8]) == [f"7 {__version__}", f"8 {__version__}"]
        again = Session(cluster, tmp_path)
        assert again.spark is before
        again.stop()
        assert before.range(5).count() == 5
        assert dict(os.environ) == environment


def test_a_spark_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """In the JVM that the test above has left, which is not ours to end."""
    from distributed_cls.spark import internals

    with small_spark():
        pass
    jvm = internals.gateway()
    environment = dict(os.environ)
    session = Session(ClusterConfig(master="local[nonsense"), tmp_path)
    with pytest.raises(
        RunError, match=r"^Spark did not start on local\[nonsense: SparkException: Could not parse Mast"
    ):
        session.spark  # noqa: B018 - starting it is the point
    assert not (tmp_path / ".spark").exists()
    assert dict(os.environ) == environment
    assert jvm is not None and internals.gateway() is jvm and jvm.jvm.java.lang.Math.abs(-3) == 3


PROGRAM = """
import json, os, sys, time
from pathlib import Path
from distributed_cls.config import ClusterConfig
from distributed_cls.errors import RunError
from distributed_cls.run import progress
from distributed_cls.spark.session import Session

before = dict(os.environ)
told = {}
refused = Session(ClusterConfig(master="local[2]", spark={"spark.driver.memory": "nonsense"}), Path("run"))
try:
    refused.spark
except RunError as error:
    told["refused"] = str(error)
session = Session(ClusterConfig(master="local[2]", workers=1), Path("run"))
with progress.showing("bar") as display:
    display.begin("Spark starts")
    spark = session.spark
Path("Ünï.txt").touch()
java = spark._jvm.java.lang.ProcessHandle.current().pid()
told["mapped"] = [line.split()[-1] for line in Path(f"/proc/{java}/maps").read_text().splitlines() if "/spark-" in line]
found = spark._jvm.java.io.File(os.getcwd()).list()
told["seen"] = sorted(found)
told["temporary"] = str(spark._jvm.java.lang.System.getProperty("java.io.tmpdir"))
told["count"] = spark.range(7).repartition(2).count()
session.stop()
told["environment"] = dict(os.environ) == before
told["left"] = os.path.exists(told["temporary"])
Path(sys.argv[1]).write_text(json.dumps(told), encoding="utf-8")
"""


def _on_a_terminal(command: list[str], **options: Any) -> tuple[int, str]:
    """Exit code, and what a command writes to a terminal of its own."""
    reader, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL, **options) as process:
        os.close(terminal)
        output = b""
        while select.select([reader], [], [], PATIENCE)[0]:
            try:
                output += os.read(reader, 65536)
            except OSError:  # Linux says so when the last writer has closed the terminal
                break
        os.close(reader)
        return process.wait(PATIENCE), output.decode("utf-8", errors="replace")


def test_any_folder_locale_and_environment_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "run 1 (ü) 車, 'x' \"y\""
    folder.mkdir()
    inherited = ("LANG", "LC_CTYPE", "JAVA_HOME", "SPARK_BUFFER_SIZE", "SPARK_AUTH_SOCKET_TIMEOUT")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    environment |= {
        "LC_ALL": "C",
        "SPARK_HOME": "/opt/no-spark",
        "SPARK_REMOTE": "sc://nowhere",
        "SPARK_LOCAL_DIRS": "/nowhere",
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "TMPDIR": str(tmp_path),
    }
    facts = tmp_path / "facts.json"
    code, output = _on_a_terminal([sys.executable, "-c", PROGRAM, str(facts)], cwd=folder, env=environment)
    assert code == 0, output
    told = json.loads(facts.read_text(encoding="utf-8"))
    assert told["refused"].endswith("Invalid maximum heap size: -Xmxnonsense")
    assert told["count"] == 7
    archive = class_archive.find(Path(java_home()), environment_of_spark.spark_home())  # None before --prepare-java
    assert set(told["mapped"]) == ({str(archive)} if archive else set())
    assert told["seen"] == ["run", "Ünï.txt"], "Java reads names as Python does"
    assert Path(told["temporary"]).parent == tmp_path and not told["left"]
    assert told["environment"], "nothing of a session stays in the environment"
    assert "SPARK_HOME=/opt/no-spark is not used" in output
    assert "SPARK_REMOTE is not used" in output
    assert output.count("Spark starts") > 5, "drawn while Java was starting"
    log = (folder / "run" / "logs" / "spark.log").read_bytes()
    assert b"-Xmxnonsense" in log and b"\x1b" not in log
    assert sorted(path.name for path in folder.iterdir()) == ["run", "Ünï.txt"]
    assert [path.name for path in (folder / "run").iterdir()] == ["logs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["facts.json", folder.name])
