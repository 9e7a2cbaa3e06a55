"""How the model, and the code that runs it, reach executors that do not see the driver's disk."""

import atexit
import dataclasses
import functools
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_cls.contracts.export import Export
from distributed_cls.spark import scratch
from distributed_cls.spark.master import on_this_machine

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession


@dataclasses.dataclass(frozen=True)
class BroadcastExport(Export):
    """An export whose files come along in a Spark broadcast and are unpacked once per Python worker."""

    packed: Any = None

    def materialize(self) -> Export:
        """The export unpacked on this machine's disk."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(Export)}
        return Export(**{**values, "folder": _unpack(self.packed, self.version)})


def ship_to_executors(spark: "SparkSession", export: Export) -> Export:
    """The export as tasks should get it: by its folder when they run on this machine, else with its files."""
    if on_this_machine(str(spark.sparkContext.master)):
        return export
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(export.folder, arcname="model")
    values = {item.name: getattr(export, item.name) for item in dataclasses.fields(Export)}
    return BroadcastExport(**values, packed=spark.sparkContext.broadcast(packed.getvalue()))


def ship_package(spark: "SparkSession") -> None:
    """Let the executors of a session that is not ours run this package as the driver has it; once for each session."""
    if not on_this_machine(str(spark.sparkContext.master)):
        _ship_package(spark.sparkContext)


@functools.lru_cache(maxsize=1)
def _ship_package(context: "SparkContext") -> None:
    folder = Path(tempfile.mkdtemp(prefix="distributed_cls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # executors that come later fetch it as well
    context.addPyFile(str(scratch.package_zip(folder)))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # kept until the worker ends


@functools.lru_cache(maxsize=1)
def _unpack(packed: Any, version: str) -> str:
    # Workers that Spark ends have no time to clean up; its own folder for them goes with the application.
    place = os.environ.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    folder = tempfile.TemporaryDirectory(
        prefix=f"model-{version}-", dir=place if place and Path(place).is_dir() else None
    )
    _FOLDERS.append(folder)
    with tarfile.open(fileobj=io.BytesIO(packed.value)) as archive:
        # The filter is not there in the first releases of 3.10 and 3.11; the archive is our own driver's.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder.name, **safe)  # type: ignore[arg-type]
    return str(Path(folder.name) / "model")
