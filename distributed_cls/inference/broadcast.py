"""How the model reaches executors that do not see the driver's disk."""

import dataclasses
import functools
import io
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_cls.contracts.export import Export
from distributed_cls.spark.master import on_this_machine

if TYPE_CHECKING:
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


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # kept until the worker ends, which removes them


@functools.lru_cache(maxsize=1)
def _unpack(packed: Any, version: str) -> str:
    folder = tempfile.TemporaryDirectory(prefix=f"model-{version}-")
    _FOLDERS.append(folder)
    with tarfile.open(fileobj=io.BytesIO(packed.value)) as archive:
        archive.extractall(folder.name, filter="data")
    return str(Path(folder.name) / "model")
