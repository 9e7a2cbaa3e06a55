"""What a Spark master URL says about where tasks run: in the driver's JVM, on this machine, or elsewhere."""

import os
import re

# The fewest slots on which anything distributed shows: a machine with one core runs two slots on it.
_LEAST_LOCAL_SLOTS = 2


def is_local(master: str | None) -> bool:
    """Whether tasks run inside the driver's JVM: ``local``, ``local[N]``, ``local[*]``, ``local[N,F]``.

    The rule of Spark's own ``org.apache.spark.util.Utils.isLocalMaster``.
    """
    return master is not None and (master == "local" or master.startswith("local["))


def is_local_cluster(master: str | None) -> bool:
    """Whether Spark starts executors of its own on this machine: ``local-cluster[workers,cores,megabytes]``."""
    return master is not None and master.startswith("local-cluster[")


def on_this_machine(master: str | None) -> bool:
    """Whether every task of ``master`` runs on the driver's machine, and so sees its disk, GPUs and loopback."""
    return is_local(master) or is_local_cluster(master)


def with_slots(master: str) -> str:
    """``master``, its ``*`` replaced by the cores of this process, at least two; a bare ``local`` likewise."""
    found = re.fullmatch(r"local(?:\[\*(,\d+)?\])?", master)
    if found is None:
        return master
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"local[{max(cores, _LEAST_LOCAL_SLOTS)}{found.group(1) or ''}]"
