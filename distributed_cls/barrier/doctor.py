"""``job=doctor``: a short barrier stage on the chosen cluster, and a verdict for everything that a training needs."""

import concurrent.futures
import dataclasses
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from distributed_cls import storage
from distributed_cls.barrier import verdicts
from distributed_cls.barrier.examination import examine
from distributed_cls.config import ClusterConfig, Config
from distributed_cls.contracts import doctor_report, node_report
from distributed_cls.contracts.doctor_report import Grade, Verdict
from distributed_cls.errors import UserError
from distributed_cls.spark import preflight
from distributed_cls.spark.barrier import run_barrier
from distributed_cls.spark.driver_address import DriverAddress
from distributed_cls.spark.interruptible import run_interruptibly
from distributed_cls.spark.java_errors import task_reason

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAULT: "bold red", Grade.UNKNOWN: "dim"}


def check(spark: "SparkSession", config: Config, folder: Path) -> list[Verdict]:
    """A verdict for each check, those that cannot be made among them; written to ``doctor.json`` in the run folder."""
    conf = dict(spark.sparkContext.getConf().getAll())
    found = [Verdict("Spark", Grade.OK, f"{spark.version} on {spark.sparkContext.master}")]
    try:
        # All of the cluster, not the part of it with which training would make do.
        preflight.check(spark, dataclasses.replace(config.cluster, min_workers=None))
        found.append(Verdict("slots", Grade.OK, f"{config.cluster.workers} for as many ranks"))
        host = DriverAddress.of(spark.sparkContext.getConf()).host
        found += _examined(spark, config, folder, (host, int(conf["spark.driver.port"])))
    except UserError as refused:
        found.append(Verdict("slots and properties", Grade.FAULT, *_split(str(refused))))
        found.append(Verdict("ranks", Grade.UNKNOWN, "no barrier stage can start", "Mend this first."))
    doctor_report.write(folder, found)
    return found


def _split(refusal: str) -> tuple[str, str]:
    """The one line of an error as what was found, and what to do: its last sentence."""
    found, stop, remedy = refusal.rpartition(". ")
    return found + stop.strip(), remedy


def _examined(spark: "SparkSession", config: Config, folder: Path, driver: tuple[str, int]) -> list[Verdict]:
    """The verdicts on what the ranks report; one fault when the stage itself fails."""
    cluster = config.cluster
    places = {"dataset_root": storage.absolute(config.dataset_root), "hydra.run.dir": str(folder.absolute())}
    places = {setting: path for setting, path in places.items() if not storage.is_url(path)}
    try:
        with storage.marked(*places.values()) as marker:
            text = _run(spark, cluster, places=places, marker=marker, driver=driver, ports=cluster.port_range)
        return verdicts.judge(node_report.loads(text), cluster)
    except concurrent.futures.TimeoutError:
        remedy = "Look at Spark's page for tasks that wait; raise cluster.rendezvous_timeout."
        return [Verdict("ranks", Grade.FAULT, "no answer in time", remedy)]
    except OSError as error:
        found = f"{error.filename}: {error.strerror}"
        return [Verdict("folders", Grade.FAULT, found, "Set dataset_root and hydra.run.dir to folders of yours.")]
    except Exception as error:  # whatever Spark raises when one of its tasks fails
        return [Verdict("ranks", Grade.FAULT, task_reason(error), "Its whole text is in logs/spark.log.")]


def _run(spark: "SparkSession", cluster: ClusterConfig, **arguments: object) -> str:
    """What the tasks of one barrier stage report. Raises TimeoutError after the limits of a training's start."""
    group = f"doctor-{uuid.uuid4().hex}"
    arguments |= {"threads": preflight.threads_per_rank(spark, cluster), "probe_seconds": cluster.start_timeout}
    return run_interruptibly(
        lambda: run_barrier(spark, group, cluster.workers, cluster.gpus_per_worker, examine, **arguments),
        on_stop=lambda: spark.sparkContext.cancelJobGroup(group),
        limit=cluster.rendezvous_timeout + cluster.start_timeout,
    )


def table(found: list[Verdict]) -> Table:
    """The verdicts for a terminal."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "verdict", "found", "what to do"):
        made.add_column(heading, overflow="fold")
    for verdict in found:
        grade = f"[{_STYLES[verdict.grade]}]{verdict.grade.value}[/]"
        made.add_row(verdict.check, grade, *map(escape, (verdict.found, verdict.remedy)))
    return made


def refuse_faults(found: list[Verdict]) -> None:
    """Raise UserError when a training could not run."""
    faults = [verdict for verdict in found if verdict.grade is Grade.FAULT]
    if faults:
        names = ", ".join(verdict.check for verdict in faults)
        raise UserError(
            f"Expected a cluster that can train. Received: {len(faults)} fault(s): {names}. {faults[0].remedy}"
        )
