"""One run of a job: what it was asked for, how it gets Spark, and how long each stage took."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.config import Config, to_dict
from distributed_cls.contracts.events import Event
from distributed_cls.contracts.summary import Summary
from distributed_cls.run import tracker_feed
from distributed_cls.run.progress import Display
from distributed_cls.run.status_file import StatusFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from distributed_cls.barrier.crew_pool import CrewHolder


def _watches_nothing(event: Event) -> None:
    """What watches a run by itself."""


def _frees_nothing() -> None:
    """What follows the ranks of a run by itself."""


@dataclass
class Run:
    """One run: its settings, its folder, and how to get a Spark session when it is needed."""

    config: Config
    folder: Path
    get_spark: Callable[[], "SparkSession"]
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    crews: "CrewHolder | None" = None  # of a sweep, whose trials follow each other on the same crew
    on_free: Callable[[], None] = _frees_nothing  # of a sweep, whose next trial takes the crew; a report may be left
    watch: Callable[[Event], None] = _watches_nothing  # sees every event of the ranks; may raise EndRequested
    display: Display | None = None  # of a sweep, which shows its trials by itself
    given: frozenset[str] = frozenset()  # settings and groups of the command line, by dotted name
    seconds: dict[str, float] = field(default_factory=dict)  # per stage
    began: float = field(default_factory=time.monotonic)

    @functools.cached_property
    def status(self) -> StatusFile:
        """``status.json`` of this run."""
        return StatusFile(self.folder, self.config.job.name)

    @functools.cached_property
    def tracking(self) -> tracker_feed.Tracking:
        """The experiment tracker of this run. Raises UserError when its package is not installed."""
        return tracker_feed.make(self.config, self.folder, self.folder.parent if self.crews is not None else None)

    def note_total(self) -> None:
        """Set the time since the command was given, once: the report, the panel and the summary show the same one."""
        if "total" not in self.seconds:
            self.seconds["total"] = round(self.seconds.get("launch", 0.0) + time.monotonic() - self.began, 3)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of a block, without those of stages that it contains, to ``seconds``."""
        began, before = time.monotonic(), sum(self.seconds.values())
        with self.status.stage(stage):
            yield
        inner = sum(self.seconds.values()) - before
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began - inner, 3)

    def start_spark(self, display: Display) -> "SparkSession":
        display.begin("starting Spark")
        with self.timed("spark"):
            session = self.get_spark()
        display.end()
        return session

    def start_cluster(self, display: Display, idle: bool) -> "SparkSession":
        """A session on which the ranks can run; refused before any image is touched.

        idle: no agents of an earlier trial hold the slots; these would tell themselves what they do not share.
        """
        from distributed_cls.spark import preflight, shared_storage

        session = self.start_spark(display)
        preflight.check(session, self.config.cluster)
        if idle:
            shared_storage.check(session, {**self._prepared, "hydra.run.dir": storage.absolute(str(self.folder))})
        return session

    def start_preparation(self, display: Display) -> "SparkSession":
        """A session whose executors can prepare images; they need not see the run folder."""
        from distributed_cls.spark import shared_storage

        session = self.start_spark(display)
        shared_storage.check(session, self._prepared)
        return session

    @property
    def _prepared(self) -> dict[str, str]:
        return {"dataset_root": storage.absolute(self.config.dataset_root)}

    def summary(self) -> Summary:
        """What is known of every job."""
        return Summary(self.config.job.name, self.seconds, to_dict(self.config), self.command, self.versions)
