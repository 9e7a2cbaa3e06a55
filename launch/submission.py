"""A driver that spark-submit has put onto the cluster: what is different there from where the command was given."""

from collections.abc import Mapping
from pathlib import Path

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.errors import UserError
from distributed_cls.job_checks import PREPARING
from distributed_cls.spark import environment, internals
from distributed_cls.spark.interruptible import silence_py4j


def in_cluster_mode() -> bool:
    """Whether the driver runs in a container of the cluster, with a working folder that goes with it."""
    silence_py4j()
    return environment.is_submitted() and internals.submitted_properties().get("spark.submit.deployMode") == "cluster"


def check_places(config: Config, given: Mapping[str, str]) -> None:
    """Refuse folders that would be lost with the driver's container. given: that of the run, by its setting."""
    if not in_cluster_mode():
        return
    places = dict(given)
    if config.job.name in (*PREPARING, "verify"):
        places["dataset_root"] = config.dataset_root
    for name, place in places.items():
        if not storage.is_url(place) and not Path(place).expanduser().is_absolute():
            raise UserError(
                f"Expected {name} to be an absolute path on storage that every node mounts, as the driver runs in a "
                f"container of the cluster, which is removed. Received: {name}={place}. Set {name}=/mount/folder."
            )
