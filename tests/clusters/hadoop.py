"""YARN and HDFS of the tests' own: Hadoop's real daemons, one process each, on free ports of the loopback interface.

Their jars are those that PySpark ships and a few more, which Spark itself fetches once (``--packages``) and keeps in
the user's cache. A node is a process, so that a lost machine is a killed one.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import psutil
import pyspark

from distributed_cls.spark.java import java_home
from distributed_cls.spark.properties import LOCAL_JAVA
from tests.end_to_end.conftest import wait_for
from tests.patience import PATIENCE

SPARK_HOME = Path(pyspark.__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "distributed_cls", "hadoop")
_FETCH_SECONDS = 300.0
# Beside Hadoop itself: what its ResourceManager loads and its own description does not name.
_COMPANIONS = tuple(f"org.bouncycastle:{name}-jdk18on:1.82" for name in ("bcprov", "bcpkix", "bcutil"))
# PySpark ships these, some of them in another version.
_SHIPPED = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime,org.slf4j:slf4j-api"
_FROM_PYSPARK = ("hadoop-client-*", "slf4j-api-*", "log4j-*", "jcl-over-slf4j-*", "snappy-java-*")
_SERVER = "org.apache.hadoop.{}".format
_LOG4J = """status = error
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class Unavailable(Exception):
    """What the cluster needs and this machine does not have."""


class Hadoop:
    """One NameNode, one DataNode, one ResourceManager and ``nodes`` NodeManagers, whose files are in ``folder``."""

    def __init__(self, folder: Path, nodes: int = 2, node_megabytes: int = 8192) -> None:
        self.folder, self._nodes, self._megabytes = folder, nodes, node_megabytes
        self._classpath = _classpath()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._held: list[socket.socket] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this cluster has in its environment."""
        return {
            **os.environ,
            "JAVA_HOME": java_home(),
            "HADOOP_CONF_DIR": str(self.folder / "conf"),
            "SPARK_CONF_DIR": str(self.folder / "conf"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JAVA_TOOL_OPTIONS": LOCAL_JAVA,  # many Javas on few cores, each of them for a minute
        }

    def start(self) -> None:
        """Start the daemons; return when HDFS answers and every node has joined."""
        self._configure()
        self._run("namenode", "hdfs.server.namenode.NameNode", "-format", "-nonInteractive").wait(PATIENCE)
        self._run("namenode", "hdfs.server.namenode.NameNode")
        self._run("datanode", "hdfs.server.datanode.DataNode")
        self._run("resourcemanager", "yarn.server.resourcemanager.ResourceManager")
        for number in range(self._nodes):
            self._run(f"node-{number}", "yarn.server.nodemanager.NodeManager")
        wait_for(lambda: self._alive() and self._metrics().get("activeNodes") == self._nodes, "the nodes of YARN")
        wait_for(lambda: self._alive() and self._live_datanodes() == 1, "the DataNode of HDFS")
        self._release()

    def stop(self) -> None:
        """End the daemons and what they have started. All of it is thrown away, so none of them is asked first."""
        self._release()
        for name in self._processes:
            self.kill(name)
        for process in _working_in(self.folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_for(lambda: not _working_in(self.folder), "the end of all containers")

    def kill(self, name: str) -> None:
        """End a daemon as a machine ends that loses its power."""
        process = self._processes[name]
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)

    def applications(self) -> list[dict[str, object]]:
        """What YARN says of each application, the oldest first."""
        found = self._get(f"http://{self._resource_manager}/ws/v1/cluster/apps").get("apps") or {}
        return sorted(found.get("app", []), key=lambda app: app["startedTime"])

    def container_logs(self, last: bool = False) -> str:
        """Everything that containers have written so far, of the last application or of all."""
        name = str(self.applications()[-1]["id"]) if last else "*"
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"logs-*/{name}/*/std*")))

    def _run(self, name: str, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
        java = Path(java_home(), "bin", "java")
        options = ["-Xmx256m", "-XX:-UsePerfData", "-Djava.net.preferIPv4Stack=true"]
        conf = self.folder / (name if name.startswith("node-") else "conf")
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [java, *options, "-cp", f"{conf}:{self._classpath}", _SERVER(main), *arguments],
                # Containers inherit what yarn.nodemanager.env-whitelist names.
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def _alive(self) -> bool:
        for name, process in self._processes.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]
        return True

    def _metrics(self) -> dict[str, int]:
        return dict(self._get(f"http://{self._resource_manager}/ws/v1/cluster/metrics").get("clusterMetrics", {}))

    def _live_datanodes(self) -> int:
        query = "Hadoop:service=NameNode,name=FSNamesystemState"
        beans = self._get(f"http://{self._name_node}/jmx?qry={query}").get("beans") or [{}]
        return int(beans[0].get("NumLiveDataNodes", 0))

    @staticmethod
    def _get(url: str) -> dict:  # type: ignore[type-arg]
        """The JSON at ``url``; an empty object while nobody answers."""
        try:
            # Without the machine's proxies: the address is this machine's.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
                return dict(json.load(answer))
        except (OSError, ValueError):
            return {}

    # ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _configure(self) -> None:
        self._resource_manager, self._name_node = self._address(), self._address()
        self.hdfs = f"hdfs://{self._address()}"
        core = {"fs.defaultFS": self.hdfs, "hadoop.tmp.dir": self.folder / "tmp"}
        hdfs = {
            "dfs.replication": 1,
            "dfs.permissions.enabled": "false",
            "dfs.namenode.http-address": self._name_node,
            "dfs.namenode.name.dir": self.folder / "names",
            "dfs.datanode.data.dir": self.folder / "blocks",
            **{f"dfs.datanode.{name}address": "localhost:0" for name in ("", "http.", "ipc.")},
        }
        manager = {
            f"yarn.resourcemanager.{name}.address": self._address()
            for name in ("scheduler", "resource-tracker", "admin")
        }
        yarn = {
            **manager,
            "yarn.resourcemanager.address": self._address(),
            "yarn.resourcemanager.webapp.address": self._resource_manager,
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": 100,
            "yarn.scheduler.capacity.maximum-am-resource-percent": 1.0,
            "yarn.scheduler.minimum-allocation-mb": 128,
        }
        _write_conf(self.folder / "conf", core, hdfs, yarn)
        for number in range(self._nodes):
            _write_conf(self.folder / f"node-{number}", core, hdfs, yarn | self._node(number))
        # A Spark installation that its administrator has set up for the cluster: nothing is uploaded for each run.
        lines = {
            "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",
            "spark.ui.enabled": "false",
        }
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        (self.folder / "conf" / "spark-defaults.conf").write_text(text)

    def _node(self, number: int) -> dict[str, object]:
        """The settings of one NodeManager. It enforces memory itself: no control groups are needed, nor root."""
        return {
            "yarn.nodemanager.hostname": "localhost",
            **{f"yarn.nodemanager.{name}address": self._address() for name in ("", "localizer.", "webapp.")},
            "yarn.nodemanager.local-dirs": self.folder / f"local-{number}",
            "yarn.nodemanager.log-dirs": self.folder / f"logs-{number}",
            "yarn.nodemanager.delete.debug-delay-sec": 3600,  # the tests read the logs of containers
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,JAVA_TOOL_OPTIONS,SPARK_LOCAL_IP,HADOOP_CONF_DIR",
            "yarn.nodemanager.resource.memory-mb": self._megabytes,
            "yarn.nodemanager.resource.cpu-vcores": 4,
            "yarn.nodemanager.resource.memory.enforced": "false",  # "true" leaves it to control groups
            "yarn.nodemanager.pmem-check-enabled": "true",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.container-monitor.interval-ms": 1000,
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 100,
        }

    def _address(self) -> str:
        """A free port of this machine, held until its daemon has it: Java too binds with SO_REUSEADDR."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self._held.append(held)
        return f"localhost:{held.getsockname()[1]}"

    def _release(self) -> None:
        while self._held:
            self._held.pop().close()


@contextlib.contextmanager
def running(folder: Path, **settings: int) -> Iterator[Hadoop]:
    """A cluster in ``folder`` while the block runs. Raises Unavailable."""
    hadoop = Hadoop(folder, **settings)
    try:
        hadoop.start()
        yield hadoop
    finally:
        hadoop.stop()


def _write_conf(
    folder: Path, core: Mapping[str, object], hdfs: Mapping[str, object], yarn: Mapping[str, object]
) -> None:
    folder.mkdir()
    for name, values in (("core", core), ("hdfs", hdfs), ("yarn", yarn)):
        text = "".join(
            f"<property><name>{key}</name><value>{escape(str(value))}</value></property>\n"
            for key, value in values.items()
        )
        (folder / f"{name}-site.xml").write_text(f"<configuration>\n{text}</configuration>\n")
    (folder / "log4j2.properties").write_text(_LOG4J)


def _working_in(folder: Path) -> list[psutil.Process]:
    """Processes below YARN's folders, such as containers, which outlive a NodeManager that was killed."""
    found = []
    for process in psutil.process_iter(["pid", "cwd", "status"]):
        cwd = process.info["cwd"] or ""
        if process.pid != os.getpid() and (cwd == str(folder) or cwd.startswith(f"{folder}/")):
            found.append(process)
    return found


def _classpath() -> str:
    """The jars of the daemons; Unavailable when they are neither in the cache nor to be had."""
    own = sorted(path for pattern in _FROM_PYSPARK for path in (SPARK_HOME / "jars").glob(f"{pattern}.jar"))
    release = next((path.stem.removeprefix("hadoop-client-api-") for path in own if "client-api" in path.name), None)
    if release is None:
        raise Unavailable("this PySpark has no Hadoop client")
    cache = _CACHE / release
    if not (cache / "complete").exists():
        _fetch(cache, [f"org.apache.hadoop:hadoop-client-minicluster:{release}", *_COMPANIONS])
    return ":".join(map(str, [*own, *sorted((cache / "jars").glob("*.jar"))]))


def _fetch(cache: Path, packages: list[str]) -> None:
    """Let spark-submit resolve ``packages``: about 70 MB, once."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "nothing.py").write_text("")
    settings = {
        "spark.jars.packages": ",".join(packages),
        "spark.jars.excludes": _SHIPPED,
        "spark.jars.ivy": str(cache),
    }
    command = [str(SPARK_HOME / "bin" / "spark-submit")]
    for key, value in settings.items():
        command += ["--conf", f"{key}={value}"]
    environment = {**os.environ, "JAVA_HOME": java_home(), "PYSPARK_PYTHON": sys.executable}
    try:
        ended = subprocess.run(
            [*command, str(cache / "nothing.py")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Hadoop's jars were not fetched within {_FETCH_SECONDS:g} s") from None
    if ended.returncode != 0:
        raise Unavailable(f"Hadoop's jars cannot be fetched: {ended.stderr.strip().splitlines()[-1][:300]}")
    (cache / "complete").touch()
