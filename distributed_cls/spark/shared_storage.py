"""Whether the driver and every executor mean the same folder by one path: found out before any work is done in it.

The driver leaves a file of a name that nobody else has, every executor looks for it and leaves an answer beside it, and
the driver looks for the answers. A folder that only happens to have the same path does not pass.
"""

import logging
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.errors import UserError
from distributed_cls.spark import internals, master, stage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Network file systems may show to one machine a little later what another one has written.
_LATE_SECONDS = 3.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Sight:
    """What an executor saw of a folder."""

    setting: str
    host: str
    shared: bool  # the driver's file is there
    answer: str | None = None  # path of the file that it has left
    trouble: str | None = None  # why it could not look, or not write


def check(spark: "SparkSession", places: Mapping[str, str]) -> None:
    """Refuse with one line folders or URLs (by the setting that names them) that are not the same on every executor.

    An executor must also be able to write there. A place that the driver itself may only read is left out: nothing
    will be prepared in it, and the ranks compare what they read.
    """
    if master.is_local(str(spark.sparkContext.master)):  # its tasks run on the driver's own file system
        return
    places = {setting: place for setting, place in places.items() if _is_writable(place, setting)}
    with storage.marked(*places.values()) as marker:
        # Spark gives each free executor one task before it gives any of them a second.
        items = [(places, marker)] * max(1, internals.executors(spark))
        for sight in stage.run(spark, "look at the shared folders", look, items):
            trouble = _trouble(sight)
            if trouble:
                place = places[sight.setting]
                raise UserError(
                    f"Expected {sight.setting} on storage that the driver and every executor share. Received: "
                    f"{sight.setting}={place}, {trouble}. Set {sight.setting} to {_remedy(sight.setting)}."
                )


def _is_writable(place: str, setting: str) -> bool:
    try:
        storage.check_writable(place, setting)
    except UserError as error:
        log.debug("Whether all executors share it is not looked at: %s", error)
        return False
    return True


def _trouble(sight: Sight) -> str | None:
    if sight.trouble:
        return f"which the executor on {sight.host} cannot use ({sight.trouble})"
    if not sight.shared:
        return f"which on the executor on {sight.host} is another folder than the driver's"
    if sight.answer is None or not _appears(sight.answer):
        return f"in which the driver does not see what the executor on {sight.host} writes"
    return None


def _remedy(setting: str) -> str:
    mounted = "a folder that every node mounts"
    return mounted if setting == "hydra.run.dir" else f"{mounted}, or to a URL (s3://…, hdfs://…)"


def look(items: Iterable[tuple[Mapping[str, str], str]]) -> Iterator[Sight]:
    """What this executor sees. Each item: the places by setting, and the name of the driver's file in each of them."""
    host = socket.gethostname()
    for places, marker in items:
        for setting, place in places.items():
            answer = storage.join(place, f"{marker}.{uuid.uuid4().hex}")
            try:
                if not _appears(storage.join(place, marker)):
                    yield Sight(setting, host, shared=False)
                    continue
                storage.write_bytes(answer, b"")
                yield Sight(setting, host, shared=True, answer=answer)
            except Exception as error:  # each store raises types of its own; all mean that it cannot be used
                yield Sight(setting, host, shared=False, trouble=storage.reason_of(error))


def _appears(path: str) -> bool:
    """Whether a file is there, or comes within a moment."""
    until = time.monotonic() + _LATE_SECONDS
    while not storage.exists(path):
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True
